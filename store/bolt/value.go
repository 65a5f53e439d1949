package bolt

import (
	"encoding/binary"
	"time"
)

// expiryLen is the length of the expiry in front of each stored value: nanoseconds
// since 1970 as a big-endian unsigned number, 0 for never.
const expiryLen = 8

// pack puts the expiry in front of a copy of the value.
func pack(value []byte, expires time.Time) []byte {
	b := make([]byte, expiryLen, expiryLen+len(value))
	binary.BigEndian.PutUint64(b, stamp(expires))
	return append(b, value...)
}

// stamp is the stored form of an expiry. A time before 1970 becomes 1: in the past,
// not never. A time after 2262 does not fit and means never, as it was meant.
func stamp(expires time.Time) uint64 {
	switch {
	case expires.IsZero():
		return 0
	case expires.Unix() < 1:
		return 1
	case expires.Unix() >= 1<<33:
		return 0
	}
	return uint64(expires.UnixNano())
}

// unpack returns the value within a stored one and whether it is alive at now. A
// stored value that is too short is not ours and counts as absent.
func unpack(stored []byte, now time.Time) ([]byte, bool) {
	if len(stored) < expiryLen {
		return nil, false
	}
	at := binary.BigEndian.Uint64(stored)
	if at != 0 && at <= stamp(now) {
		return nil, false
	}
	return stored[expiryLen:], true
}
