package alarm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every way of printing a secret shows.
const redacted = "[redacted]"

// Secret is the token of the webhook. It prints as nothing. The text stands in a closure: fmt follows pointers inside of
// structs, whose methods it cannot call, and shows a closure as an address only. The zero value is no token.
type Secret struct{ text func() string }

// NewSecret takes a token as RFC 6750, section 2.1, writes it: letters, digits and -._~+/ with = at the end.
func NewSecret(text string) (Secret, error) {
	if text == "" || len(text) > 4096 {
		return Secret{}, errors.New("a token has 1 to 4096 characters")
	}
	rest := text
	for rest != "" && isToken(rest[0]) {
		rest = rest[1:]
	}
	for rest != "" && rest[0] == '=' && rest != text {
		rest = rest[1:]
	}
	if rest != "" {
		return Secret{}, errors.New("a token has letters, digits, - . _ ~ + / and nothing else (RFC 6750, section 2.1)")
	}
	return Secret{func() string { return text }}, nil
}

func isToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~' || c == '+' || c == '/'
}

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
