package jws

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	maxDepth  = 16 // objects and arrays inside each other, the outermost counted
	maxNumber = 32 // characters of one number
)

// Reasons of [checkObject]; they never quote the text.
var (
	errJSON      = errors.New("not strict JSON")
	errNotObject = errors.New("not a JSON object")
	errUTF8      = errors.New("not valid Unicode")
	errDuplicate = errors.New("duplicate member")
	errDepth     = errors.New("nested too deep")
	errNumber    = errors.New("number out of range")
)

// checkObject accepts exactly one JSON object (RFC 8259) and is narrower than
// encoding/json where that package is lax: it silently replaces invalid UTF-8
// and lone surrogates, and it takes the last of two members of one name. Two
// readers that choose differently would see two different tokens.
func checkObject(text []byte) error {
	if !utf8.Valid(text) || hasLoneSurrogate(text) {
		return errUTF8
	}
	// Valid refuses trailing text, a byte order mark, comments and NaN; the
	// walk below then needs to look at names, depth and numbers only.
	if !json.Valid(text) {
		return errJSON
	}
	return walk(text)
}

// level is one open object or array.
type level struct {
	object bool
	value  bool     // in an object: a value comes next
	few    []string // the names so far, while they are few
	many   map[string]struct{}
}

// add takes a member name and says whether it is new.
func (l *level) add(name string) bool {
	if l.many == nil {
		if slices.Contains(l.few, name) {
			return false
		}
		if l.few = append(l.few, name); len(l.few) < 16 {
			return true
		}
		// Comparing each with each would cost an attacker's 1500
		// members a million comparisons.
		l.many = make(map[string]struct{}, 2*len(l.few))
		for _, n := range l.few {
			l.many[n] = struct{}{}
		}
		return true
	}
	if _, seen := l.many[name]; seen {
		return false
	}
	l.many[name] = struct{}{}
	return true
}

// text takes a string: a member's name, which must be new, or a value.
func (l *level) text(raw []byte) error {
	if !l.object || l.value {
		return nil
	}
	name, err := asString(raw)
	if err != nil {
		return errJSON
	}
	if !l.add(name) {
		return errDuplicate
	}
	return nil
}

// walk looks at the names, the depth and the numbers of valid JSON; on other text
// it may say anything, but neither panics nor runs long. Names are compared after
// unescaping: "\u0073ub" is "sub".
func walk(text []byte) error {
	stack := make([]level, 0, 4)
	if text = bytes.TrimLeft(text, " \t\r\n"); len(text) == 0 || text[0] != '{' {
		return errNotObject
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '{' || c == '[':
			if len(stack) == maxDepth {
				return errDepth
			}
			stack = append(stack, level{object: c == '{'})
			i++
		case len(stack) == 0:
			i++ // blanks behind the object
		case c == '}' || c == ']':
			stack = stack[:len(stack)-1]
			i++
		case c == '"':
			end := stringEnd(text, i)
			if err := stack[len(stack)-1].text(text[i:end]); err != nil {
				return err
			}
			i = end
		case c == ':' || c == ',':
			stack[len(stack)-1].value = c == ':'
			i++
		case c == '-' || '0' <= c && c <= '9':
			end := i + 1
			for end < len(text) && bytes.IndexByte([]byte("0123456789+-.eE"), text[end]) >= 0 {
				end++
			}
			if end-i > maxNumber {
				return errNumber
			}
			// 1e400 is valid JSON and infinite in every reader.
			if _, err := strconv.ParseFloat(string(text[i:end]), 64); err != nil {
				return errNumber
			}
			i = end
		default:
			i++ // blanks, true, false, null
		}
	}
	return nil
}

// stringEnd returns the index behind the string that begins at text[at].
func stringEnd(text []byte, at int) int {
	for i := at + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// hasLoneSurrogate looks for an escape like \ud800 without its other half, which
// encoding/json turns into U+FFFD: two different names would become one. In
// valid JSON a backslash stands inside strings only.
func hasLoneSurrogate(text []byte) bool {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if text[i+1] != 'u' {
			i++ // an escaped backslash is not the start of an escape
			continue
		}
		r, ok := hex4(text, i+2)
		if !ok {
			return false // not JSON: refused by the caller's next check
		}
		i += 5
		if r < 0xd800 || r > 0xdfff {
			continue
		}
		if r >= 0xdc00 || i+2 >= len(text) || text[i+1] != '\\' || text[i+2] != 'u' {
			return true
		}
		low, ok := hex4(text, i+3)
		if !ok || low < 0xdc00 || low > 0xdfff {
			return true
		}
		i += 6
	}
	return false
}

// hex4 reads the four hexadecimal digits that begin at text[at].
func hex4(text []byte, at int) (uint64, bool) {
	if at+4 > len(text) {
		return 0, false
	}
	r, err := strconv.ParseUint(string(text[at:at+4]), 16, 32)
	return r, err == nil
}
