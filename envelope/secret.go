package envelope

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every way of printing a secret shows.
const redacted = "[redacted]"

// secret holds a master key or a data key. All ways of printing are redacted by type, so that a
// %+v in somebody's log line cannot give the key away.
type secret [keyLen]byte

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// An Envelope and a Local print as nothing either. fmt cannot call methods of unexported
// fields, neither ours nor those of a type that contains one of them: it then follows
// pointers (a %s of a struct prints the array behind them). A closure is the one thing
// that it shows as an address only, therefore the keys stand in one.
func (Envelope) String() string               { return redacted }
func (Envelope) GoString() string             { return redacted }
func (Envelope) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Envelope) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Envelope) LogValue() slog.Value         { return slog.StringValue(redacted) }

func (Local) String() string               { return redacted }
func (Local) GoString() string             { return redacted }
func (Local) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Local) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Local) LogValue() slog.Value         { return slog.StringValue(redacted) }
