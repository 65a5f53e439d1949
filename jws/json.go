package jws

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
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
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return errNotObject
	}
	return walk(decoder)
}

// level is one open object or array.
type level struct {
	members map[string]struct{} // nil in an array
	value   bool                // in an object: a value comes next
}

// walk reads the tokens behind the first brace. Names are compared after
// unescaping: "\u0073ub" is "sub".
func walk(decoder *json.Decoder) error {
	stack := []level{{members: map[string]struct{}{}}}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && len(stack) == 0 {
			return nil
		}
		if err != nil || len(stack) == 0 {
			return errJSON
		}
		top := &stack[len(stack)-1]
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if top.members != nil && !top.value {
			name, ok := token.(string)
			if !ok {
				return errJSON
			}
			if _, seen := top.members[name]; seen {
				return errDuplicate
			}
			top.members[name] = struct{}{}
			top.value = true
			continue
		}
		top.value = false
		switch v := token.(type) {
		case json.Number:
			if len(v) > maxNumber {
				return errNumber
			}
			// 1e400 is valid JSON and infinite in every reader.
			if _, err := strconv.ParseFloat(string(v), 64); err != nil {
				return errNumber
			}
		case json.Delim:
			if len(stack) == maxDepth {
				return errDepth
			}
			var next level
			if v == '{' {
				next.members = map[string]struct{}{}
			}
			stack = append(stack, next)
		}
	}
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
