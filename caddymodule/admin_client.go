package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// adminAnswerLimit bounds what a command reads: a list of a hundred thousand sessions fits.
const adminAnswerLimit = 128 << 20

// adminFlags say where the admin interface of the running program is, in the words of Caddy's own commands.
type adminFlags struct{ address, config, adapter string }

func (f *adminFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.address, "address", "", "address of the running program's admin interface, for example localhost:2019 or unix//run/anteroom/admin.sock (default: the one in --config, else Caddy's default)")
	c.Flags().StringVarP(&f.config, "config", "c", "", "Caddyfile of the running program; its admin line tells the address")
	c.Flags().StringVarP(&f.adapter, "adapter", "a", "", "adapter of --config (default: by its name)")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w; put -- before an id that begins with a hyphen", err)
	})
}

// where finds the address, and says so when the config switches the admin interface off.
func (f adminFlags) where() (string, error) {
	var config []byte
	if f.address == "" && f.config != "" {
		var err error
		if config, _, _, err = caddycmd.LoadConfig(f.config, f.adapter); err != nil {
			return "", fmt.Errorf("reading %s: %w", f.config, err)
		}
		var admin struct {
			Admin struct {
				Disabled bool `json:"disabled"`
			} `json:"admin"`
		}
		if err := json.Unmarshal(config, &admin); err != nil {
			return "", fmt.Errorf("reading %s: %w", f.config, err)
		}
		if admin.Admin.Disabled {
			return "", fmt.Errorf("%s says `admin off`: this command asks the running program over its admin interface; write for example `admin unix//run/anteroom/admin.sock|0600` and restart it", f.config)
		}
	}
	return caddycmd.DetermineAdminAPIAddress(f.address, config, f.config, f.adapter)
}

// call asks the running program and decodes its answer; a nil body is a GET.
func (f adminFlags) call(path string, body, into any) error {
	address, err := f.where()
	if err != nil {
		return err
	}
	method, sent := http.MethodGet, io.Reader(nil)
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		method, sent = http.MethodPost, bytes.NewReader(b)
	}
	res, err := caddycmd.AdminAPIRequest(address, method, path, nil, sent)
	if err != nil {
		return saidBy(address, err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, adminAnswerLimit)).Decode(into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	return nil
}

// saidBy makes a sentence of a failed request. Caddy's client puts status and body of an error answer into the text.
func saidBy(address string, err error) error {
	answer, answered := strings.CutPrefix(err.Error(), "caddy responded with error: ")
	if !answered && strings.Contains(err.Error(), "permission denied") {
		return fmt.Errorf("this user may not open the admin socket %s: use the user that the program runs as, or root (%w)", address, err)
	}
	if !answered {
		return fmt.Errorf("nothing answers at %s: start anteroom, or name its admin interface with --address or its Caddyfile with --config; with `admin off` there is none (%w)", address, err)
	}
	var p struct {
		Type, Detail string
	}
	if _, body, found := strings.Cut(answer, ": "); found && json.Unmarshal([]byte(body), &p) == nil && strings.HasPrefix(p.Type, "urn:anteroom:problem:") {
		return errors.New(printable(strings.TrimSuffix(p.Detail, ".")))
	}
	if strings.HasPrefix(answer, "HTTP 404") {
		return fmt.Errorf("the program at %s has no admin API of anteroom: it is another one, or an older version", address)
	}
	return fmt.Errorf("the program at %s: %s", address, printable(strings.TrimSpace(answer)))
}

// printJSON is the output of --json. What is not printed, such as C1 controls and marks that turn the direction of text, is escaped: a program reads the same, and the
// terminal of who looks at it does nothing (RFC 8259 section 7).
func printJSON(c *cobra.Command, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	var safe strings.Builder
	for _, r := range text.String() { // beyond ASCII there are only texts
		switch {
		case r < utf8.RuneSelf || unicode.IsPrint(r):
			safe.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&safe, `\u%04x`, unit)
			}
		}
	}
	_, err := io.WriteString(c.OutOrStdout(), safe.String())
	return err
}

// localTime is a time for a person: in the zone of this machine, which it names.
func localTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// printable replaces what could act on a terminal or make one line look like another: names come from the people.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cell is one field of a table, "-" when empty.
func cell(s string) string {
	if s = strings.TrimSpace(printable(s)); s == "" {
		return "-"
	}
	return s
}
