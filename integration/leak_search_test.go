package integration

import (
	"bytes"
	"compress/gzip"
	"encoding/base32"
	"encoding/base64"
	bits "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// window is how much of a secret, in whatever spelling, is one. It is also what a shorter look-up would find by chance.
const window = 16

// haystack is everything that a search goes through, by the name of the place.
type haystack map[string][]byte

// needles are the secrets of a test with all their spellings, cut into windows.
type needles struct {
	owner     map[[window]byte]string // which secret it is a part of
	filter    []uint64                // bits of the windows' first bytes: most places are decided by it
	places    map[string][]string     // secret → files, by the end of their path, where it may stand
	originals map[string][]byte
}

func newNeedles() *needles {
	return &needles{owner: map[[window]byte]string{}, filter: make([]uint64, 1<<16), places: map[string][]string{}, originals: map[string][]byte{}}
}

// plant makes a secret known, and where it may stand.
func (n *needles) plant(t testing.TB, name string, secret []byte, places ...string) {
	t.Helper()
	if len(secret) < window {
		t.Fatalf("%s has %d bytes: what is found of it may be chance", name, len(secret))
	}
	n.places[name], n.originals[name] = places, secret
	for _, text := range spellings(secret) {
		for i := 0; i+window <= len(text); i++ {
			w := [window]byte([]byte(text[i : i+window]))
			if telling(w) {
				n.owner[w] = name
				bit := bitOf(w[:])
				n.filter[bit>>6] |= 1 << (bit & 63)
			}
		}
	}
}

// telling reports whether a window could not be there by chance: a run of one letter or of replacement characters says nothing.
func telling(w [window]byte) bool {
	if bytes.Count(w[:], []byte("ufffd")) > 1 || bytes.Count(w[:], []byte("\xef\xbf\xbd")) > 1 || bytes.Count(w[:], []byte("%EF%BF%BD")) > 0 {
		return false
	}
	seen := map[byte]bool{}
	for _, b := range w {
		seen[b] = true
	}
	return len(seen) > 5
}

func bitOf(b []byte) uint64 { return bits.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15 >> 42 }

// spellings are the ways in which bytes come to be written: as they are, in hexadecimal, in base64 at each alignment, escaped
// for an address, for JSON and for Go, and as numbers.
func spellings(secret []byte) []string {
	digits := hex.EncodeToString(secret)
	quoted, _ := json.Marshal(string(secret)) // a string cannot fail
	list := []string{string(secret), digits, strings.ToUpper(digits), strings.Trim(string(quoted), `"`), fmt.Sprintf("%q", secret), fmt.Sprintf("%+q", secret),
		url.QueryEscape(string(secret)), url.PathEscape(string(secret)), strings.ToLower(url.QueryEscape(string(secret))),
		fmt.Sprint(secret), strings.ReplaceAll(fmt.Sprint(secret), " ", ","), fmt.Sprintf("% x", secret),
		base32.StdEncoding.EncodeToString(secret)}
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			// The first and the last letters have bits of their neighbours.
			list = append(list, text[(shift*8+5)/6:len(text)-1])
		}
	}
	return list
}

// in returns what is found, one line for each secret and place, leaving out where it may be.
func (n *needles) in(hay haystack) (found []string) {
	for place, text := range hay {
		seen := map[string]bool{}
		for i := 0; i+window <= len(text); i++ {
			bit := bitOf(text[i:])
			if n.filter[bit>>6]&(1<<(bit&63)) == 0 {
				continue
			}
			name, hit := n.owner[[window]byte(text[i:i+window])]
			if !hit || seen[name] || slices.ContainsFunc(n.places[name], func(end string) bool { return strings.HasSuffix(place, end) }) {
				continue
			}
			seen[name] = true
			from, to := max(0, i-60), min(len(text), i+80)
			found = append(found, fmt.Sprintf("%s stands in %s at %d: …%q…", name, place, i, text[from:to]))
		}
	}
	slices.Sort(found)
	return found
}

// folder adds all files below a folder.
func (h haystack) folder(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		h["file "+path] = append(h["file "+path], b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// add adds to a place; what is compressed is added as it was, too.
func (h haystack) add(place string, b []byte) {
	h[place] = append(append(h[place], '\n'), b...)
	if r, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
		var plain bytes.Buffer
		_, _ = plain.ReadFrom(r)
		h[place] = append(h[place], plain.Bytes()...)
	}
}
