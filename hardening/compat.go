package hardening

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
)

// originalKey is the effective key of the original form. It keyed HMAC with the PKCS#8 PEM text of the TLS key; each such
// text is longer than SHA-256's 64-byte block, and RFC 2104 section 2 hashes such a key first. So these 32 bytes reproduce
// every old digest, and nobody can serve TLS with them: what we keep is this, never the private key.
func originalKey(pkcs8 []byte) [sha256.Size]byte {
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	defer clear(text)
	return sha256.Sum256(text)
}

// parseOriginal reads "<password>&<rounds>", both positional. The password is URL-decoded ("+" is a blank, a bad escape is
// refused) and then cut at its first NUL, as the C string of the original was: so "a" and "a%00b" harden alike in this
// form, and only in this form. An empty password is refused; no rounds, 0 and 1 mean one.
func parseOriginal(rawQuery string, maxRounds int) (password []byte, rounds int, err error) {
	first, second, given := strings.Cut(rawQuery, "&")
	rounds = 1
	if given {
		if rounds, err = parseRounds(second, maxRounds); err != nil {
			return nil, 0, err
		}
	}
	password = make([]byte, 0, len(first))
	for i := 0; i < len(first); i++ {
		switch c := first[i]; c {
		case '+':
			password = append(password, ' ')
		case '%':
			if i+2 >= len(first) {
				return nil, 0, fmt.Errorf("reading query: %w: a %% without two hexadecimal digits", ErrInput)
			}
			var raw [1]byte
			if _, err := hex.Decode(raw[:], []byte(first[i+1:i+3])); err != nil {
				// The cause would quote what may be a piece of the password.
				return nil, 0, fmt.Errorf("reading query: %w: a %% without two hexadecimal digits", ErrInput)
			}
			password = append(password, raw[0])
			i += 2
		default:
			password = append(password, c)
		}
	}
	cut, rest, _ := bytes.Cut(password, []byte{0}) // no copy, which nobody would clear
	clear(rest)
	if len(cut) == 0 || len(cut) > maxSecret {
		return nil, 0, fmt.Errorf("reading query: %w: the password has not 1 to %d bytes", ErrInput, maxSecret)
	}
	return cut, rounds, nil
}

// parseRounds accepts decimal digits up to the cap. Nothing of the text is repeated in the error: in a query whose parts
// were swapped it is the password.
func parseRounds(s string, maxRounds int) (int, error) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("reading query: %w: the rounds are not a decimal number", ErrInput)
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > uint64(maxRounds) {
		return 0, fmt.Errorf("reading query: %w: more than %d rounds", ErrInput, maxRounds)
	}
	return max(1, int(n)), nil
}
