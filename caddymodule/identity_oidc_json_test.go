package caddymodule

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A config that is written as JSON does not pass the Caddyfile's reader: a demand that is misspelled there must not be no demand.
func TestMisspelledDemandDoesNotLoad(t *testing.T) {
	const whole = `{"name": "hospital", "issuer": "https://login.hospital.example", "client_id": "anteroom", "client_secret": "s", `
	for member, good := range map[string]string{
		"profile": "fapi2", "response_mode": "form_post", "userinfo": "signed", "refresh": "off", "logout_token": "typed",
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		defer cancel()
		for _, value := range []string{strings.ToUpper(good), good + " ", good + "x"} {
			var o OIDC
			text, _ := json.Marshal(value)
			if err := json.Unmarshal([]byte(whole+`"`+member+`": `+string(text)+`}`), &o); err != nil {
				t.Fatal(err)
			}
			if err := o.Provision(ctx); err == nil || !strings.Contains(err.Error(), "write `"+member+" ") {
				t.Errorf("%s %q: %v", member, value, err)
			}
		}
	}
}
