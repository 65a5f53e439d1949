package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func good() Identity {
	return Identity{
		Source: "hospital", Issuer: "https://login.hospital.example", Subject: "248289761001",
		Username: "d.ortiz", Name: "Dolores Ortiz", Email: "d.ortiz@hospital.example",
		Roles: []string{"doctor", "ward-3"}, ACR: "urn:mfa", AMR: []string{"pwd", "otp"},
		AuthTime: time.Unix(1_700_000_000, 0),
	}
}

func TestCheckAccepts(t *testing.T) {
	cases := map[string]func(*Identity){
		"plain":                   func(*Identity) {},
		"no roles":                func(i *Identity) { i.Roles = nil },
		"no name and e-mail":      func(i *Identity) { i.Name, i.Email = "", "" },
		"no issuer":               func(i *Identity) { i.Issuer = "" },
		"subject of 255 bytes":    func(i *Identity) { i.Subject = strings.Repeat("x", 255) },
		"name in other scripts":   func(i *Identity) { i.Name = "د. لیلا می\u200cخواهد 李 Ó Súilleabháin" },
		"a provider's session":    func(i *Identity) { i.Session = "08a5019c-17e1-4977-8f42-65a12843ea02" },
		"username with a blank":   func(i *Identity) { i.Username = "d ortiz" },
		"username as address":     func(i *Identity) { i.Username = "d.ortiz@hospital.example" },
		"username with an umlaut": func(i *Identity) { i.Username = "jörg" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			i := good()
			change(&i)
			if err := i.Check(); err != nil {
				t.Fatalf("Check: %v", err)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	many := slices.Repeat([]string{"r"}, maxRoles+1)
	cases := []struct {
		name   string
		change func(*Identity)
		reason string
	}{
		{"zero value", func(i *Identity) { *i = Identity{} }, "identity.source"},
		{"source with a slash", func(i *Identity) { i.Source = "a/b" }, "identity.source"},
		{"source dot dot", func(i *Identity) { i.Source = ".." }, "identity.source"},
		{"issuer too long", func(i *Identity) { i.Issuer = strings.Repeat("i", maxIssuer+1) }, "identity.issuer"},
		{"no subject", func(i *Identity) { i.Subject = "" }, "identity.subject"},
		{"subject of 256 bytes", func(i *Identity) { i.Subject = strings.Repeat("x", 256) }, "identity.subject"},
		{"subject not UTF-8", func(i *Identity) { i.Subject = "a\xff" }, "identity.subject"},
		{"no username", func(i *Identity) { i.Username = "" }, "identity.username"},
		{"username of 256 bytes", func(i *Identity) { i.Username = strings.Repeat("x", 256) }, "identity.username"},
		{"name too long", func(i *Identity) { i.Name = strings.Repeat("n", maxName+1) }, "identity.name"},
		{"name with NUL", func(i *Identity) { i.Name = "a\x00b" }, "identity.name"},
		{"e-mail too long", func(i *Identity) { i.Email = strings.Repeat("e", maxEmail+1) }, "identity.email"},
		{"empty role", func(i *Identity) { i.Roles = []string{""} }, "identity.roles"},
		{"role with a comma", func(i *Identity) { i.Roles = []string{"doctor,admin"} }, "identity.roles"},
		{"role of 65 bytes", func(i *Identity) { i.Roles = []string{strings.Repeat("r", 65)} }, "identity.roles"},
		{"too many roles", func(i *Identity) { i.Roles = many }, "identity.roles"},
		{"session with CR", func(i *Identity) { i.Session = "a\rb" }, "identity.session"},
		{"session of 256 bytes", func(i *Identity) { i.Session = strings.Repeat("x", 256) }, "identity.session"},
		{"org with LF", func(i *Identity) { i.Org = "a\nb" }, "identity.org"},
		{"acr with DEL", func(i *Identity) { i.ACR = "a\x7f" }, "identity.acr"},
		{"empty amr member", func(i *Identity) { i.AMR = []string{"pwd", ""} }, "identity.amr"},
		{"too many amr members", func(i *Identity) { i.AMR = slices.Repeat([]string{"pwd"}, maxMethods+1) }, "identity.amr"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			i := good()
			c.change(&i)
			err := i.Check()
			if !errors.Is(err, ErrRefused) || Reason(err) != c.reason {
				t.Fatalf("Check = %v, want refused with %s", err, c.reason)
			}
		})
	}
}

func TestFailure(t *testing.T) {
	cause := errors.New("connection refused")
	err := fmt.Errorf("finishing: %w", &Failure{Kind: ErrUnavailable, Reason: "token.unreachable", Err: cause})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, cause) || errors.Is(err, ErrRefused) {
		t.Errorf("kinds of %v", err)
	}
	if got := Reason(err); got != "token.unreachable" {
		t.Errorf("Reason = %q", got)
	}
	if got := Reason(cause); got != "" {
		t.Errorf("Reason of a plain error = %q", got)
	}
	if got := (&Failure{}).Error(); got == "" || errors.Is(&Failure{}, ErrRefused) {
		t.Errorf("zero Failure: %q", got)
	}
}
