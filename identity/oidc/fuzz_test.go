package oidc

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
)

const fuzzIssuer = "https://login.hospital.example"

// FuzzCallback looks for a query that one reader would take for another answer
// than readResponse does.
func FuzzCallback(f *testing.F) {
	f.Add("code=a&state=s&iss=https%3A%2F%2Flogin.hospital.example", true)
	f.Fuzz(func(t *testing.T, raw string, promised bool) {
		query, _ := url.ParseQuery(raw) // what could be read of it, as net/http hands it over
		r, err := readResponse(query)
		if err == nil {
			err = r.checkIssuer(fuzzIssuer, promised)
		}
		if err != nil {
			reason := identity.Reason(err)
			if !strings.HasPrefix(reason, "callback.") || strings.ContainsFunc(reason, func(c rune) bool { return c > 'z' || c < '.' }) {
				t.Fatalf("reason %q", reason)
			}
			return
		}
		for _, name := range []string{"code", "state", "iss", "error"} {
			if values := query[name]; len(values) > 1 || (len(values) == 1 && (values[0] == "" || len(values[0]) > maxParameter)) {
				t.Fatalf("accepted %s = %q", name, values)
			}
		}
		if query.Has("code") == query.Has("error") || query.Has("id_token") || query.Has("access_token") || r.state == "" {
			t.Fatalf("accepted %v", query)
		}
		if r.failed != query.Has("error") || (promised && query.Get("iss") != fuzzIssuer) || (query.Has("iss") && query.Get("iss") != fuzzIssuer) {
			t.Fatalf("misread %v as %+v", query, r)
		}
		reason := strings.TrimPrefix(declinedReason(r.code), "declined.")
		if strings.ContainsFunc(reason, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') }) {
			t.Fatalf("reason %q holds what the provider wrote", reason)
		}
	})
}

// Seeds that nobody committed find nothing.
func TestFuzzSeeds(t *testing.T) {
	for _, name := range []string{"FuzzCallback", "FuzzTokenAnswer"} {
		seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", name))
		if err != nil || len(seeds) == 0 {
			t.Errorf("no seeds for %s: %v", name, err)
		}
	}
}
