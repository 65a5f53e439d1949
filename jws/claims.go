package jws

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// maxNumericDate is 9999-12-31T23:59:59Z. Callers bound times much closer; this
// bound keeps any arithmetic on them from wrapping around.
const maxNumericDate = 253402300799

// Claims holds the members of a payload under their exact names. A name in
// another case or with look-alike letters is another name.
type Claims map[string]json.RawMessage

// Claims decodes the payload's members. Their values are as trustworthy as the
// token: call [Token.Verify] first.
func (t *Token) Claims() (Claims, error) {
	if t == nil || checkObject(t.Payload) != nil {
		return nil, fmt.Errorf("reading claims: %w", ErrMalformed)
	}
	var c Claims
	if err := json.Unmarshal(t.Payload, &c); err != nil {
		return nil, fmt.Errorf("reading claims: %w", ErrMalformed)
	}
	return c, nil
}

// unacceptable names the claim: the name is the caller's constant, never input.
func unacceptable(name string) error { return fmt.Errorf("reading claim %s: %w", name, ErrClaim) }

// String returns a string claim. The second result says whether the claim is
// there; null or another type is ErrClaim.
func (c Claims) String(name string) (string, bool, error) {
	raw, present := c[name]
	if !present {
		return "", false, nil
	}
	s, err := asString(raw)
	if err != nil {
		return "", false, unacceptable(name)
	}
	return s, true, nil
}

// Strings returns a claim that is a string or an array of strings, as "aud" may
// be (RFC 7519, section 4.1.3). An empty array is present and has no elements.
func (c Claims) Strings(name string) ([]string, bool, error) {
	raw, present := c[name]
	if !present {
		return nil, false, nil
	}
	if s, err := asString(raw); err == nil {
		return []string{s}, true, nil
	}
	var elements []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
		return nil, false, unacceptable(name)
	}
	list := make([]string, len(elements))
	for i, element := range elements {
		s, err := asString(element)
		if err != nil {
			return nil, false, unacceptable(name)
		}
		list[i] = s
	}
	return list, true, nil
}

// Time returns a NumericDate (RFC 7519, section 2) in whole seconds. Only plain
// decimal digits count: a sign, a fraction, an exponent, a string or a time after
// the year 9999 is ErrClaim. Zero is ErrClaim too. The caller bounds it against
// the clock.
func (c Claims) Time(name string) (time.Time, bool, error) {
	raw, present := c[name]
	if !present {
		return time.Time{}, false, nil
	}
	if len(raw) == 0 || len(raw) > len("253402300799") {
		return time.Time{}, false, unacceptable(name)
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return time.Time{}, false, unacceptable(name)
		}
	}
	seconds, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || seconds < 1 || seconds > maxNumericDate {
		return time.Time{}, false, unacceptable(name)
	}
	return time.Unix(seconds, 0), true, nil
}

// Bool returns a claim that is exactly true or false.
func (c Claims) Bool(name string) (value, present bool, err error) {
	raw, present := c[name]
	if !present {
		return false, false, nil
	}
	switch string(raw) {
	case "true":
		return true, true, nil
	case "false":
		return false, true, nil
	}
	return false, false, unacceptable(name)
}

// Object returns a claim that is itself an object, such as "cnf" or "address".
func (c Claims) Object(name string) (Claims, bool, error) {
	raw, present := c[name]
	if !present {
		return nil, false, nil
	}
	var object Claims
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &object) != nil {
		return nil, false, unacceptable(name)
	}
	return object, true, nil
}
