package budget

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// window is what the store keeps of one key: when each value was seen last. Its form is
//
//	version (1) ‖ salt (16) ‖ hit (8) ‖ reset (8) ‖ alarmed (8) ‖ exceeded (8) ‖ entries of 16
//
// with times in milliseconds, and in an entry 10 bytes of the value's hash and 6 of the time.
type window struct {
	salt     [saltLen]byte
	hit      int64 // the first refusal since there was room; 0: there is room
	reset    int64 // the sign-in that began the counting anew
	alarmed  int64 // when it was last told that the alarm level was reached
	exceeded int64 // the same of the limit
	seen     []seen
}

type seen struct {
	hash valueHash
	at   int64
}

const (
	windowVersion = 1
	saltLen       = 16
	hashLen       = 10
	headLen       = 1 + saltLen + 4*8
	entryLen      = 16
)

type valueHash [hashLen]byte

var errForm = errors.New("not of a form that this version knows")

func newWindow() *window {
	w := new(window)
	_, _ = rand.Read(w.salt[:]) // never fails: crypto/rand ends the process instead
	return w
}

// hash is a value's name in this window. The salt is sealed with the window: a list of all patients does not tell who is in
// which window without opening each.
func (w *window) hash(value string) valueHash {
	h := sha256.New()
	_, _ = h.Write([]byte(labelValue + "\x00"))
	_, _ = h.Write(w.salt[:])
	_, _ = h.Write([]byte(value))
	return valueHash(h.Sum(nil)[:hashLen])
}

func (w *window) encode() []byte {
	b := make([]byte, 0, headLen+len(w.seen)*entryLen)
	b = append(append(b, windowVersion), w.salt[:]...)
	for _, at := range []int64{w.hit, w.reset, w.alarmed, w.exceeded} {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	for _, s := range w.seen {
		b = append(b, s.hash[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(s.at>>32))
		b = binary.BigEndian.AppendUint32(b, uint32(s.at))
	}
	return b
}

func decodeWindow(b []byte) (*window, error) {
	if len(b) < headLen || b[0] != windowVersion || (len(b)-headLen)%entryLen != 0 || (len(b)-headLen)/entryLen > MaxLimit {
		return nil, errForm
	}
	w := &window{salt: [saltLen]byte(b[1:])}
	b = b[1+saltLen:]
	for _, at := range []*int64{&w.hit, &w.reset, &w.alarmed, &w.exceeded} {
		*at = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	w.seen = make([]seen, 0, len(b)/entryLen)
	for ; len(b) > 0; b = b[entryLen:] {
		at := int64(binary.BigEndian.Uint16(b[hashLen:]))<<32 | int64(binary.BigEndian.Uint32(b[hashLen+2:]))
		w.seen = append(w.seen, seen{valueHash(b), at})
	}
	return w, nil
}

// grain is how exact the time of a value is: it is written again when it is older than that.
func (l Limit) grain() time.Duration { return min(l.Per/16, time.Minute) }

// count counts one value. recorded is the time that the window has of it; write says that the window has changed.
func (w *window) count(value string, l Limit, now, since time.Time) (result Result, recorded int64, write bool) {
	at := now.UnixMilli()
	w.slide(l, at)
	if s := since.UnixMilli(); !since.IsZero() && w.hit != 0 && s > w.hit && s > w.reset {
		w.hit, w.reset, w.alarmed, w.exceeded, w.seen = 0, s, 0, 0, nil
		write = true
	}
	hash := w.hash(value)
	if i := slices.IndexFunc(w.seen, func(s seen) bool { return s.hash == hash }); i >= 0 {
		if at-w.seen[i].at >= l.grain().Milliseconds() {
			w.seen[i].at, write = at, true
		}
		return Result{Admitted: true, Count: len(w.seen)}, w.seen[i].at, write
	}
	per := l.Per.Milliseconds()
	if len(w.seen) >= l.Max {
		result = Result{Count: len(w.seen)}
		if w.hit == 0 {
			w.hit, write = at, true
		}
		if w.exceeded == 0 || at-w.exceeded >= per {
			w.exceeded, result.Exceeded, write = at, true, true
		}
		return result, 0, write
	}
	w.hit = 0
	w.seen = append(w.seen, seen{hash, at})
	result = Result{Admitted: true, Count: len(w.seen)}
	if l.Alarm > 0 && len(w.seen) >= l.Alarm && (w.alarmed == 0 || at-w.alarmed >= per) {
		w.alarmed, result.Alarm = at, true
	}
	return result, at, true
}

// slide drops what does not count any more. A time in the future is of a node whose clock is ahead; it stays that much longer.
func (w *window) slide(l Limit, at int64) {
	oldest := at - (l.Per + l.grain()).Milliseconds()
	w.seen = slices.DeleteFunc(w.seen, func(s seen) bool { return s.at <= oldest })
}
