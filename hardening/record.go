package hardening

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The slow step of a record: Argon2id with OWASP's minimum, 19 MiB and two passes (about 21 ms of one core). A record that
// names other parameters is refused: whoever can write to the application's table must not choose how much we work.
const (
	slowMemory = 19456 // KiB
	slowTime   = 2
	slowLanes  = 1
	slowText   = "argon2id:m=19456,t=2,p=1"
)

const (
	saltSize   = 16
	tagSize    = sha256.Size
	digestSize = 16   // of one entry of a set: among 4096 a stranger's matches with a chance of 2^-116
	ringIDSize = 8    // bytes, printed as 16 hexadecimal digits
	maxSet     = 4096 // entries of a set
	maxRecord  = 512  // bytes; the longest record we make that is no set has fewer
	maxLayers  = 16
	maxContext = 64
	// maxSetRecord is the longest record of a set: its digests in base64, and what stands before them.
	maxSetRecord = maxSet*digestSize*4/3 + 3 + maxRecord
)

// record is one line of an application's table. It holds no secret that the pepper does not guard.
type record struct {
	ring    string   // 16 lower-case hexadecimal digits
	layers  []string // pepper versions, innermost first; the innermost may be the pinned key of imported digests
	fast    bool     // without the slow step (s=none)
	rounds  int      // of an imported digest of the original form; 0: none
	entries int      // of a set; 0: none
	context string
	salt    []byte // none in an imported digest
	tag     []byte // of a set: entries digests of 16 bytes, sorted
}

// String is the record's one form.
func (r record) String() string { return string(r.appendTo(nil)) }

// appendTo writes one of
//
//	$anteroom$v=1,ring=R,l=p1.p3,s=argon2id:m=19456,t=2,p=1[,c=C]$SALT$TAG
//	$anteroom$v=1,ring=R,l=p1.p3,s=none[,c=C]$SALT$TAG                     without the slow step
//	$anteroom$v=1,ring=R,l=d:0123456789abcdef.p3,r=4$$TAG                  an imported digest of the original form
//	$anteroom-set$v=1,ring=R,l=p1.p3,n=4096[,c=C]$SALT$DIGESTS             a set
func (r record) appendTo(b []byte) []byte {
	return appendTail(r.appendHead(b), r.context, r.salt, r.tag)
}

// appendHead writes what all records that are made alike have in common.
func (r record) appendHead(b []byte) []byte {
	b = append(b, "$anteroom"...)
	if r.entries > 0 {
		b = append(b, "-set"...)
	}
	b = append(append(append(b, "$v=1,ring="...), r.ring...), ",l="...)
	for i, id := range r.layers {
		if i > 0 {
			b = append(b, '.')
		}
		b = append(b, id...)
	}
	switch {
	case r.entries > 0:
		b = strconv.AppendInt(append(b, ",n="...), int64(r.entries), 10)
	case r.rounds > 0:
		b = strconv.AppendInt(append(b, ",r="...), int64(r.rounds), 10)
	case r.fast:
		b = append(b, ",s=none"...)
	default:
		b = append(b, ",s="+slowText...)
	}
	return b
}

// appendTail writes what is a record's own.
func appendTail[T string | []byte](b []byte, context T, salt, tag []byte) []byte {
	if len(context) > 0 {
		b = append(append(b, ",c="...), context...)
	}
	b = base64.RawStdEncoding.AppendEncode(append(b, '$'), salt)
	return base64.RawStdEncoding.AppendEncode(append(b, '$'), tag)
}

var strictBase64 = base64.RawStdEncoding.Strict()

// parseRecord accepts exactly what String makes, byte for byte: one record has one spelling.
func parseRecord(s string) (record, error) {
	var r record
	if len(s) > maxSetRecord {
		return r, fmt.Errorf("reading record: %w: longer than any that we make", ErrInput)
	}
	rest, set := strings.CutPrefix(s, "$anteroom-set$")
	ok := set
	if !set {
		rest, ok = strings.CutPrefix(s, "$anteroom$")
	}
	head, rest, ok1 := strings.Cut(rest, "$")
	salt, tag, ok2 := strings.Cut(rest, "$")
	if !ok || !ok1 || !ok2 || !set && len(s) > maxRecord {
		return r, fmt.Errorf("reading record: %w: not of the form $anteroom$…$…$…", ErrInput)
	}
	if err := r.readHead(head, set); err != nil {
		return r, err
	}
	var err1, err2 error
	r.salt, err1 = strictBase64.DecodeString(salt)
	r.tag, err2 = strictBase64.DecodeString(tag)
	wantSalt, wantTag := saltSize, tagSize
	if r.rounds > 0 {
		wantSalt = 0
	}
	if set {
		wantTag = r.entries * digestSize
	}
	if err1 != nil || err2 != nil || len(r.salt) != wantSalt || len(r.tag) != wantTag || string(r.appendTo(nil)) != s {
		return r, fmt.Errorf("reading record: %w: salt or tag is not base64 of the right size", ErrInput)
	}
	if set && !sortedDigests(r.tag) {
		return r, fmt.Errorf("reading record: %w: the digests of the set are not in order", ErrInput)
	}
	return r, nil
}

// readHead reads v=1,ring=…,l=…,…: the names of what made the record.
func (r *record) readHead(head string, set bool) error {
	rest, ok := strings.CutPrefix(head, "v=1,ring=")
	if !ok {
		return fmt.Errorf("reading record: %w: not version 1", ErrInput)
	}
	if r.ring, rest, ok = strings.Cut(rest, ",l="); !ok || !isRingID(r.ring) {
		return fmt.Errorf("reading record: %w: no ring of 16 hexadecimal digits", ErrInput)
	}
	layers, rest, ok := strings.Cut(rest, ",")
	if !ok {
		return fmt.Errorf("reading record: %w: nothing says how it was made", ErrInput)
	}
	r.layers = strings.Split(layers, ".")
	how, context, given := strings.Cut(rest, ",c=")
	if r.context = context; given && !isContext(context) {
		return fmt.Errorf("reading record: %w: the context is not one we write", ErrInput)
	}
	imported := strings.HasPrefix(r.layers[0], "d:")
	switch {
	case set:
		n, ok := decimal(how, "n=", maxSet)
		if r.entries = n; !ok {
			return fmt.Errorf("reading record: %w: a set has not n=1 to n=%d entries", ErrInput, maxSet)
		}
	case imported:
		n, ok := decimal(how, "r=", maxRoundsCap)
		if r.rounds = n; !ok || given {
			return fmt.Errorf("reading record: %w: an imported digest has r=1 to r=%d rounds and no context", ErrInput, maxRoundsCap)
		}
	case how == "s=none":
		r.fast = true
	case how != "s="+slowText:
		return fmt.Errorf("reading record: %w: the slow step is not %s", ErrInput, slowText)
	}
	if !areLayers(r.layers, imported && !set) {
		return fmt.Errorf("reading record: %w: the layers are not p1, p1.p2, …", ErrInput)
	}
	return nil
}

// decimal reads a number of 1 to limit behind its name, in its one spelling.
func decimal(s, name string, limit int) (int, bool) {
	digits, ok := strings.CutPrefix(s, name)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 1 && n <= limit && strconv.Itoa(n) == digits
}

func isRingID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == ringIDSize && s == strings.ToLower(s)
}

// isContext reports whether a context can stand in a record: no "$" and no "," (the record's own separators), no blanks.
func isContext[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > maxContext {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '/', c == '@', c == '+', c == '-':
		default:
			return false
		}
	}
	return true
}

// areLayers wants p<number> with rising numbers: a pepper laid over itself, or under an older one, is no upgrade of ours.
// Where imported digests may stand, the innermost is d:<kid16>.
func areLayers(ids []string, imported bool) bool {
	if len(ids) == 0 || len(ids) > maxLayers {
		return false
	}
	if imported {
		if id, ok := strings.CutPrefix(ids[0], "d:"); !ok || !isRingID(id) {
			return false
		}
		ids = ids[1:]
	}
	last := uint64(0)
	for _, id := range ids {
		digits, ok := strings.CutPrefix(id, "p")
		n, err := strconv.ParseUint(digits, 10, 24)
		if !ok || err != nil || n <= last || "p"+strconv.FormatUint(n, 10) != id {
			return false
		}
		last = n
	}
	return true
}

// lp appends b with its length before it (32 bits, big-endian), so that no two lists of fields give the same bytes.
func lp[T string | []byte](dst []byte, b T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// slowHash is the expensive inner step. What is fed to the HMAC is then never the secret itself, so that whoever has database
// *and* pepper still pays Argon2id for each guess.
func slowHash[T string | []byte](secret T, salt []byte) []byte {
	return argon2.IDKey([]byte(secret), salt, slowTime, slowMemory, slowLanes, tagSize)
}

// newSalt returns fresh random bytes; crypto/rand.Read cannot fail.
func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return salt
}
