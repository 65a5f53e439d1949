package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestHandOffLongNames: an ask of the longest host and an attempt that carries
// it fit into what browsers and we take (4096 bytes of cookie).
func TestHandOffLongNames(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "example"
	servedHosts = append(servedHosts, long)
	defer func() { servedHosts = servedHosts[:len(servedHosts)-1] }()
	w := newFleet(t, newSource("hospital", "Hospital"))
	w.sources[0].set(func() { w.sources[0].keep = nil })
	u := w.person()
	ask := u.leave(long, "/"+strings.Repeat("x", 1000))
	if len(ask) > maxAsk {
		t.Errorf("an ask has %d bytes", len(ask))
	}
	u.mustOpen(long, "/"+strings.Repeat("x", 1000))

	// And so it is when the page asks for as much as can be asked for.
	need := "&acr_values=" + strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 63)+"+", 8), "+")
	last, way := w.person().open(long, "/.anteroom/login?return_to=/"+strings.Repeat("x", 1000)+need)
	if last.answer.Code != http.StatusForbidden || last.host != homeHost { // which the provider does not confirm
		t.Errorf("ended at %s with %d", last.url(), last.answer.Code)
	}
	for _, h := range way {
		if to, _ := url.Parse(h.target); len(to.Query().Get("ask")) > maxAsk {
			t.Errorf("an ask has %d bytes", len(to.Query().Get("ask")))
		}
	}
	if got := w.sources[0].lastBegin(t).Need; len(got.ACR) != 8 {
		t.Errorf("asked for %+v", got)
	}
}
