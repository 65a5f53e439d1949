package hardening

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// What one request may hold. The numbers bound memory and, with the slow hash at some 20 ms each, time.
const (
	maxBody   = 1 << 20 // bytes; 64 secrets of 4 KiB, escaped, fit
	maxItems  = 64      // 1.3 s of one core
	maxUID    = 255     // bytes
	maxSecret = 4096    // bytes; a longer one is not a password but a way to make us work
)

// Item is one secret to protect.
type Item struct {
	// UID is the account that the record will be bound to, 1 to 255 bytes; one that the application never gives to anybody else.
	UID string
	// Secret is what the person typed, 1 to 4096 bytes, taken as it is: bring it to one Unicode form before.
	Secret string
	// Context is what the secret is for ("portal-pin"): up to 64 of [A-Za-z0-9._:/@+-]; empty for none.
	Context string
}

// Verification is one secret to compare with a record. A record of "-" stands for an account that does not exist: it costs
// the same time and never matches, so that time does not tell which accounts exist.
type Verification struct {
	Item
	Record string
}

func (i Item) check() error {
	switch {
	case i.UID == "" || len(i.UID) > maxUID:
		return fmt.Errorf("checking uid: %w: it has not 1 to %d bytes", ErrInput, maxUID)
	case i.Secret == "" || len(i.Secret) > maxSecret:
		return fmt.Errorf("checking secret: %w: it has not 1 to %d bytes", ErrInput, maxSecret)
	case i.Context != "" && !isContext(i.Context):
		return fmt.Errorf("checking context: %w: it is not 1 to %d characters of letters, digits and . _ : / @ + -", ErrInput, maxContext)
	}
	return nil
}

// parseProtect reads {"items":[{"uid","secret","context"?}]}.
func parseProtect(body []byte) ([]Item, error) {
	top, err := strictObject(body, "items")
	if err != nil {
		return nil, err
	}
	raw, ok := top["items"]
	if !ok {
		return nil, fmt.Errorf("reading request: %w: \"items\" is missing", ErrInput)
	}
	var list []json.RawMessage
	if err := strictValue(raw, '[', &list); err != nil || len(list) == 0 {
		return nil, fmt.Errorf("reading request: %w: \"items\" is not a list with something in it", ErrInput)
	}
	if len(list) > maxItems {
		return nil, fmt.Errorf("reading request: %w: more than %d items", errTooLarge, maxItems)
	}
	items := make([]Item, len(list))
	for i, raw := range list {
		fields, err := strictObject(raw, "uid", "secret", "context")
		if err == nil {
			items[i], err = readItem(fields)
		}
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return items, nil
}

// parseVerify reads {"uid","secret","context"?,"record"}.
func parseVerify(body []byte) (Verification, error) {
	fields, err := strictObject(body, "uid", "secret", "context", "record")
	if err != nil {
		return Verification{}, err
	}
	item, err := readItem(fields)
	if err != nil {
		return Verification{}, err
	}
	text, err := readString(fields, "record", true)
	return Verification{item, text}, err
}

func readItem(fields map[string]json.RawMessage) (i Item, err error) {
	var errs [3]error
	i.UID, errs[0] = readString(fields, "uid", true)
	i.Secret, errs[1] = readString(fields, "secret", true)
	i.Context, errs[2] = readString(fields, "context", false)
	for _, err := range errs {
		if err != nil {
			return Item{}, err
		}
	}
	return i, i.check()
}

func readString(fields map[string]json.RawMessage, name string, required bool) (s string, err error) {
	raw, ok := fields[name]
	if !ok {
		if required {
			return "", fmt.Errorf("reading request: %w: %q is missing", ErrInput, name)
		}
		return "", nil
	}
	if strictValue(raw, '"', &s) != nil || loneSurrogate(raw) {
		return "", fmt.Errorf("reading request: %w: %q is not a string of valid Unicode", ErrInput, name)
	}
	return s, nil
}

// strictObject reads one JSON object with exactly the allowed names, none twice, and nothing behind it. Go's decoder alone
// would take "Secret" for "secret", the last of two, invalid UTF-8 as U+FFFD (so that two secrets become one) and ignore
// what it does not know (RFC 8259 sections 4 and 8.2 leave each of these open; two readers then see two requests).
func strictObject(raw []byte, allowed ...string) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("reading request: %w: not UTF-8", ErrInput)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, fmt.Errorf("reading request: %w: not a JSON object", ErrInput)
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		tok, err := dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("reading request: %w: not a JSON object", ErrInput)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading request: %w: not a JSON object", ErrInput)
		}
		switch _, twice := fields[name]; {
		case twice:
			return nil, fmt.Errorf("reading request: %w: a member stands twice", ErrInput)
		case !slices.Contains(allowed, name):
			return nil, fmt.Errorf("reading request: %w: a member is not one of %q", ErrInput, allowed)
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("reading request: %w: not a JSON object", ErrInput)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading request: %w: something follows the JSON object", ErrInput)
	}
	return fields, nil
}

// strictValue wants the JSON type that begins with first; null is no string and no list.
func strictValue(raw json.RawMessage, first byte, into any) error {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != first {
		return ErrInput
	}
	return json.Unmarshal(raw, into)
}

// loneSurrogate finds a \uD8xx without its second half, which Go reads as U+FFFD: two different secrets would be one.
func loneSurrogate(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		switch unit := hex4(raw, i+1); {
		case unit >= 0xdc00 && unit <= 0xdfff:
			return true
		case unit >= 0xd800 && unit <= 0xdbff:
			if i+6 >= len(raw) || raw[i+5] != '\\' || raw[i+6] != 'u' {
				return true
			}
			if low := hex4(raw, i+7); low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 6
		}
	}
	return false
}

// hex4 reads four hexadecimal digits at i; what is not there reads as 0.
func hex4(raw []byte, i int) uint64 {
	if i+4 > len(raw) {
		return 0
	}
	n, _ := strconv.ParseUint(string(raw[i:i+4]), 16, 16)
	return n
}
