package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What one request may hold. The numbers bound memory; a stream has no bound, because it needs none.
const (
	maxBody    = 8 << 20
	maxItems   = 256
	maxCensus  = 4096
	maxPurpose = 64
	maxID      = 255
)

// item is one member of a batch.
type item struct {
	subject subject
	content []byte // plaintext, or what is sealed
}

// checkSubject bounds what a value is bound to. A replacement character is refused, because every broken spelling becomes
// one, and two ids would be the same.
func checkSubject(s subject) error {
	if s.purpose == "" || len(s.purpose) > maxPurpose || strings.ContainsFunc(s.purpose, notPurpose) {
		return fmt.Errorf("%w: \"purpose\" is not 1 to %d of letters, digits and . _ : / @ + -", errInput, maxPurpose)
	}
	if s.id == "" || len(s.id) > maxID || !utf8.ValidString(s.id) || strings.ContainsFunc(s.id, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return fmt.Errorf("%w: \"id\" is not 1 to %d bytes of valid Unicode without control characters", errInput, maxID)
	}
	return nil
}

func notPurpose(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:/@+-", r))
}

// parseItems reads {"items":[{"purpose","id",<content>}]}.
func parseItems(body []byte, tenant, content string) ([]item, error) {
	r := newReader(body)
	var items []item
	err := r.object(func(name string) error {
		if name != "items" {
			return unknown(name)
		}
		return r.list(maxItems, func() error {
			fields := map[string]string{}
			err := r.object(func(name string) (err error) {
				if name != "purpose" && name != "id" && name != content {
					return unknown(name)
				}
				fields[name], err = r.text()
				return err
			})
			if err != nil {
				return err
			}
			one := item{subject: subject{tenant, fields["purpose"], fields["id"]}}
			text, given := fields[content]
			if !given {
				return fmt.Errorf("%w: %q is missing", errInput, content)
			}
			if err := checkSubject(one.subject); err != nil {
				return err
			}
			one.content, err = decodeBase64(text)
			items = append(items, one)
			return err
		})
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && len(items) == 0 {
		err = fmt.Errorf("%w: \"items\" is missing or empty", errInput)
	}
	if err != nil {
		clearItems(items)
		return nil, err
	}
	return items, nil
}

func clearItems(items []item) {
	for _, i := range items {
		clear(i.content)
	}
}

// parseCensus reads {"sealed":["<base64>"]}.
func parseCensus(body []byte) (sealed [][]byte, err error) {
	r := newReader(body)
	err = r.object(func(name string) error {
		if name != "sealed" {
			return unknown(name)
		}
		sealed = [][]byte{}
		return r.list(maxCensus, func() error {
			text, err := r.text()
			if err != nil {
				return err
			}
			b, err := decodeBase64(text)
			sealed = append(sealed, b)
			return err
		})
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && sealed == nil {
		err = fmt.Errorf("%w: \"sealed\" is missing", errInput)
	}
	return sealed, err
}

// parseNothing reads {}.
func parseNothing(body []byte) error {
	r := newReader(body)
	if err := r.object(func(name string) error { return unknown(name) }); err != nil {
		return err
	}
	return r.end()
}

// decodeBase64 wants RFC 4648 section 4 with padding, in its one spelling.
func decodeBase64(text string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: a member is not base64 with padding", errInput)
	}
	return b, nil
}

// streamQuery is what the address of a stream says.
type streamQuery struct {
	subject subject
	span    span
	header  bool // the header alone is meant
}

// parseStream reads purpose, id and what else the endpoint knows; nothing may stand twice. The syntax is that of an HTML form,
// so a "+" is a blank and %2B is a plus.
func parseStream(raw, tenant string, known ...string) (q streamQuery, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("%w: the query is not well-formed", errInput)
	}
	q.subject = subject{tenant, values.Get("purpose"), values.Get("id")}
	for name, list := range values {
		if len(list) != 1 || name != "purpose" && name != "id" && !strings.Contains(" "+strings.Join(known, " ")+" ", " "+name+" ") {
			return q, fmt.Errorf("%w: the query has something twice, or something that does not belong here", errInput)
		}
		switch value := list[0]; name {
		case "first":
			q.span.first, err = strconv.ParseUint(value, 10, 40)
			if err != nil || strconv.FormatUint(q.span.first, 10) != value {
				return q, fmt.Errorf("%w: \"first\" is not the number of a chunk", errInput)
			}
		case "more":
			if q.span.more = value == "1"; !q.span.more {
				return q, fmt.Errorf("%w: \"more\" is not 1", errInput)
			}
		case "header":
			if q.header = value == "only"; !q.header {
				return q, fmt.Errorf("%w: \"header\" is not only", errInput)
			}
		}
	}
	return q, checkSubject(q.subject)
}

// reader reads JSON strictly (RFC 8259 sections 4 and 8 leave to the reader what a second member of one name means, or a
// broken character: two readers then see two requests). Names are exact, none stands twice, nothing follows the value.
type reader struct {
	dec   *json.Decoder
	valid bool
}

func newReader(body []byte) *reader {
	return &reader{dec: json.NewDecoder(bytes.NewReader(body)), valid: utf8.Valid(body)}
}

var errShape = fmt.Errorf("%w: not the JSON that is expected here", errInput)

func unknown(string) error { return fmt.Errorf("%w: a member has an unknown name", errInput) }

func (r *reader) delim(want json.Delim) error {
	if tok, err := r.dec.Token(); err != nil || tok != want || !r.valid {
		return errShape
	}
	return nil
}

func (r *reader) object(member func(name string) error) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for r.dec.More() {
		name, err := r.text()
		if err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("%w: a member stands twice", errInput)
		}
		seen[name] = true
		if err := member(name); err != nil {
			return err
		}
	}
	return r.delim('}')
}

func (r *reader) list(most int, element func() error) error {
	if err := r.delim('['); err != nil {
		return err
	}
	for n := 0; r.dec.More(); n++ {
		if n == most {
			return fmt.Errorf("%w: more than %d elements", errTooLarge, most)
		}
		if err := element(); err != nil {
			return fmt.Errorf("element %d: %w", n, err)
		}
	}
	return r.delim(']')
}

func (r *reader) text() (string, error) {
	tok, err := r.dec.Token()
	text, ok := tok.(string)
	if err != nil || !ok {
		return "", errShape
	}
	return text, nil
}

func (r *reader) end() error {
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON value", errInput)
	}
	return nil
}
