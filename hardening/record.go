package hardening

import (
	"crypto/hmac"
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
	ringIDSize = 8   // bytes, printed as 16 hexadecimal digits
	maxRecord  = 512 // bytes; the longest record we make has fewer
	maxLayers  = 8
	maxContext = 64
)

// record is one line of an application's table. It holds no secret that the pepper does not guard.
type record struct {
	ring    string   // 16 lower-case hexadecimal digits
	layers  []string // pepper versions, innermost first
	context string
	salt    []byte
	tag     []byte
}

// String is the record's one form: $anteroom$v=1,ring=R,l=p1.p3,s=argon2id:m=19456,t=2,p=1[,c=C]$SALT$TAG.
func (r record) String() string {
	var b strings.Builder
	b.WriteString("$anteroom$v=1,ring=" + r.ring + ",l=" + strings.Join(r.layers, ".") + ",s=" + slowText)
	if r.context != "" {
		b.WriteString(",c=" + r.context)
	}
	enc := base64.RawStdEncoding
	return b.String() + "$" + enc.EncodeToString(r.salt) + "$" + enc.EncodeToString(r.tag)
}

// parseRecord accepts exactly what String makes, byte for byte: one record has one spelling.
func parseRecord(s string) (record, error) {
	var r record
	parts := strings.Split(s, "$")
	if len(s) > maxRecord || len(parts) != 5 || parts[0] != "" || parts[1] != "anteroom" {
		return r, fmt.Errorf("reading record: %w: not of the form $anteroom$…$…$…", ErrInput)
	}
	rest, ok := strings.CutPrefix(parts[2], "v=1,ring=")
	if !ok {
		return r, fmt.Errorf("reading record: %w: not version 1", ErrInput)
	}
	var layers, slow string
	if r.ring, rest, ok = strings.Cut(rest, ",l="); !ok || !isRingID(r.ring) {
		return r, fmt.Errorf("reading record: %w: no ring of 16 hexadecimal digits", ErrInput)
	}
	if layers, rest, ok = strings.Cut(rest, ",s="); !ok {
		return r, fmt.Errorf("reading record: %w: no slow step", ErrInput)
	}
	if slow, r.context, ok = strings.Cut(rest, ",c="); ok && !isContext(r.context) {
		return r, fmt.Errorf("reading record: %w: the context is not one we write", ErrInput)
	}
	if slow != slowText {
		return r, fmt.Errorf("reading record: %w: the slow step is not %s", ErrInput, slowText)
	}
	if r.layers = strings.Split(layers, "."); !areLayers(r.layers) {
		return r, fmt.Errorf("reading record: %w: the layers are not p1, p1.p2, …", ErrInput)
	}
	enc := base64.RawStdEncoding.Strict()
	var err1, err2 error
	r.salt, err1 = enc.DecodeString(parts[3])
	r.tag, err2 = enc.DecodeString(parts[4])
	if err1 != nil || err2 != nil || len(r.salt) != saltSize || len(r.tag) != tagSize || r.String() != s {
		return r, fmt.Errorf("reading record: %w: salt or tag is not base64 of the right size", ErrInput)
	}
	return r, nil
}

func isRingID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == ringIDSize && s == strings.ToLower(s)
}

// isContext reports whether a context can stand in a record: no "$" and no "," (the record's own separators), no blanks.
func isContext(s string) bool {
	if s == "" || len(s) > maxContext {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._:/@+-", c))
	}) < 0
}

// areLayers wants p<number> with rising numbers: a pepper laid over itself, or under an older one, is no upgrade of ours.
func areLayers(ids []string) bool {
	last := uint64(0)
	for _, id := range ids {
		digits, ok := strings.CutPrefix(id, "p")
		n, err := strconv.ParseUint(digits, 10, 24)
		if !ok || err != nil || n <= last || "p"+strconv.FormatUint(n, 10) != id {
			return false
		}
		last = n
	}
	return len(ids) > 0 && len(ids) <= maxLayers
}

// lp appends b with its length before it (32 bits, big-endian), so that no two lists of fields give the same bytes.
func lp[T string | []byte](dst []byte, b T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// slowHash is the expensive inner step. What is fed to the HMAC is never the secret itself, so that whoever has database
// *and* pepper still pays Argon2id for each guess.
func slowHash(secret string, salt []byte) []byte {
	return argon2.IDKey([]byte(secret), salt, slowTime, slowMemory, slowLanes, tagSize)
}

// innerTag is the first layer: the pepper over everything that the record is bound to.
func innerTag(pepper []byte, context, uid string, salt, slow []byte) []byte {
	var in []byte
	for _, field := range [][]byte{[]byte(labelRecord), []byte(context), []byte(uid), salt, slow} {
		in = lp(in, field)
	}
	mac := hmac.New(sha256.New, pepper)
	mac.Write(in)
	return mac.Sum(nil)
}

// overTag lays a newer pepper over a tag. It needs no secret, which is how a whole table is re-keyed after a compromise.
func overTag(pepper, tag []byte) []byte {
	mac := hmac.New(sha256.New, pepper)
	mac.Write(lp(lp(nil, labelLayer), tag))
	return mac.Sum(nil)
}

// newSalt returns fresh random bytes; crypto/rand.Read cannot fail.
func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return salt
}
