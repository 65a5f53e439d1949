package hardening

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// scanner reads JSON strictly: exactly the known names, none twice, and nothing behind it. Go's decoder takes "Secret" for
// "secret", the last of two, invalid UTF-8 as U+FFFD (so that two secrets become one) and ignores what it does not know (RFC
// 8259 sections 4 and 8.2 leave each of these open; two readers then see two requests). It makes no copies: strings are parts
// of the body, in which escapes are resolved in place.
type scanner struct {
	b []byte
	i int
}

func newScanner(body []byte) (scanner, error) {
	if !utf8.Valid(body) {
		return scanner{}, fmt.Errorf("reading request: %w: not UTF-8", ErrInput)
	}
	return scanner{b: body}, nil
}

func (s *scanner) blanks() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\r' || s.b[s.i] == '\n') {
		s.i++
	}
}

// next skips blanks and takes one byte when it is the wanted one.
func (s *scanner) next(c byte) bool {
	s.blanks()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) end() error {
	if s.blanks(); s.i != len(s.b) {
		return fmt.Errorf("reading request: %w: something follows the JSON object", ErrInput)
	}
	return nil
}

var errNotObject = fmt.Errorf("reading request: %w: not a JSON object", ErrInput)

// object reads one object and calls value with the index of each member's name. It returns which were there.
func (s *scanner) object(names []string, value func(name int) error) (seen uint, err error) {
	if !s.next('{') {
		return 0, errNotObject
	}
	if s.next('}') {
		return 0, nil
	}
	for {
		name, ok := s.text()
		if !ok || !s.next(':') {
			return 0, errNotObject
		}
		i := slices.Index(names, string(name))
		switch {
		case i < 0:
			return 0, fmt.Errorf("reading request: %w: a member is not one of %q", ErrInput, names)
		case seen&(1<<i) != 0:
			return 0, fmt.Errorf("reading request: %w: a member stands twice", ErrInput)
		}
		seen |= 1 << i
		if err := value(i); err != nil {
			return 0, err
		}
		if s.next('}') {
			return seen, nil
		}
		if !s.next(',') {
			return 0, errNotObject
		}
	}
}

// list calls element for each element.
func (s *scanner) list(name string, element func() error) error {
	if !s.next('[') {
		return fmt.Errorf("reading request: %w: %q is not a list", ErrInput, name)
	}
	if s.next(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.next(']') {
			return nil
		}
		if !s.next(',') {
			return errNotObject
		}
	}
}

// strings reads a list of at most maxBatch strings.
func (s *scanner) strings(name string, into *[][]byte) error {
	*into = nil
	return s.list(name, func() error {
		if len(*into) == maxBatch {
			return fmt.Errorf("reading request: %w: more than %d in %q", errTooLarge, maxBatch, name)
		}
		var one []byte
		err := s.string(name, &one)
		*into = append(*into, one)
		return err
	})
}

func (s *scanner) string(name string, into *[]byte) error {
	text, ok := s.text()
	if !ok {
		return fmt.Errorf("reading request: %w: %q is not a string of valid Unicode", ErrInput, name)
	}
	*into = text
	return nil
}

func (s *scanner) boolean(name string, into *bool) error {
	s.blanks()
	switch rest := s.b[s.i:]; {
	case bytes.HasPrefix(rest, []byte("true")):
		*into = true
		s.i += len("true")
		return nil
	case bytes.HasPrefix(rest, []byte("false")):
		*into = false
		s.i += len("false")
		return nil
	}
	return fmt.Errorf("reading request: %w: %q is neither true nor false", ErrInput, name)
}

// number reads a whole number without sign, fraction or exponent.
func (s *scanner) number(name string, into *int) error {
	s.blanks()
	begin := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' && s.i-begin < 8 {
		s.i++
	}
	n, err := strconv.Atoi(string(s.b[begin:s.i]))
	if err != nil || strconv.Itoa(n) != string(s.b[begin:s.i]) {
		return fmt.Errorf("reading request: %w: %q is not a whole number", ErrInput, name)
	}
	*into = n
	return nil
}

// text reads one string. Escapes are resolved where they stand: what they mean is never longer than they are.
func (s *scanner) text() ([]byte, bool) {
	if !s.next('"') {
		return nil, false
	}
	begin := s.i
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[begin : s.i-1 : s.i-1], true
		case c == '\\':
			return s.escaped(begin)
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// escaped goes on where the first escape of a string stands.
func (s *scanner) escaped(begin int) ([]byte, bool) {
	out := s.b[begin:s.i]
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			return out[:len(out):len(out)], true
		case c < ' ':
			return nil, false
		case c != '\\':
			out = append(out, c)
			continue
		}
		if s.i == len(s.b) {
			return nil, false
		}
		c = s.b[s.i]
		s.i++
		if c == 'u' {
			r, ok := s.unicode()
			if !ok {
				return nil, false
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		i := bytes.IndexByte([]byte(`"\/bfnrt`), c)
		if i < 0 {
			return nil, false
		}
		out = append(out, "\"\\/\b\f\n\r\t"[i])
	}
	return nil, false
}

// unicode reads what stands behind \u. Half a surrogate is refused: Go reads it as U+FFFD, and two secrets would be one.
func (s *scanner) unicode() (rune, bool) {
	high, ok := s.hex4()
	if !ok || high >= 0xdc00 && high <= 0xdfff {
		return 0, false
	}
	if high < 0xd800 || high > 0xdfff {
		return high, true
	}
	if !bytes.HasPrefix(s.b[s.i:], []byte(`\u`)) {
		return 0, false
	}
	s.i += 2
	low, ok := s.hex4()
	if !ok || low < 0xdc00 || low > 0xdfff {
		return 0, false
	}
	return (high-0xd800)<<10 + (low - 0xdc00) + 0x10000, true
}

func (s *scanner) hex4() (r rune, ok bool) {
	if s.i+4 > len(s.b) {
		return 0, false
	}
	for _, c := range s.b[s.i : s.i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	s.i += 4
	return r, true
}
