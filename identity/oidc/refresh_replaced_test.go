package oidc

import (
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// What the provider gives in the place of a used refresh token is kept, whatever it looks like: to use the old one again is theft to
// the provider, and ends the session of somebody who did nothing.
func TestReplacedTokenIsKept(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){
		"letters that HTML escapes": func(a map[string]any) { a["refresh_token"] = strings.Repeat("<&>", maxRefresh/3) },
		"quotes":                    func(a map[string]any) { a["refresh_token"] = strings.Repeat(`"\`, maxRefresh/2) },
		"no ID token, said as null": func(a map[string]any) { a["id_token"], a["refresh_token"] = nil, "next" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			who := r.accepts(t)
			want := ""
			next := r.stillGood(t, who, idptest.TokenAnswer(func(a map[string]any) { change(a); want = a["refresh_token"].(string) }))
			if got := refreshTokenOf(t, next.Keep); got != want {
				t.Errorf("kept %d bytes of a refresh token of %d", len(got), len(want))
			}
		})
	}
}
