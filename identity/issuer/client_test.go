package issuer

import (
	"context"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// Requirement 47: what an https provider may name.
func TestR47Endpoints(t *testing.T) {
	for _, c := range []struct {
		issuer, endpoint string
		ok               bool
		hosts            []string
	}{
		{"https://login.example", "https://login.example/token", true, nil},
		{"https://login.example", "https://LOGIN.example:8443/token", true, nil},
		{"https://login.example", "https://tokens.example/token", false, nil},
		{"https://login.example", "https://tokens.example/token", true, []string{"Tokens.example"}},
		{"https://login.example", "https://tokens.example.evil.example/token", false, []string{"tokens.example"}},
		{"https://login.example", "https://a.tokens.example/token", false, []string{"tokens.example"}},
		{"https://login.example", "https://tokens.example./token", false, []string{"tokens.example"}},
		{"https://login.example", "http://tokens.example/token", false, []string{"tokens.example"}},
		{"https://login.example", "https://login.example@evil.example/token", false, nil},
		{"https://login.example", "https://login.example.evil.example/token", false, nil},
		{"https://login.example", "https://10.1.2.3/token", false, nil},
		{"https://login.example", "https://10.1.2.3/token", true, []string{"10.1.2.3"}},
		{"https://login.example", "http://login.example/token", false, nil},
		{"https://login.example", "https://127.0.0.1/token", false, nil},
		{"https://login.example", "https://127.9.9.9/token", false, nil},
		{"https://login.example", "https://[::1]/token", false, nil},
		{"https://login.example", "https://[::ffff:127.0.0.1]/token", false, nil},
		{"https://login.example", "https://localhost/token", false, nil},
		{"https://login.example", "https://LOCALHOST/token", false, nil},
		{"https://login.example", "https://x.localhost/token", false, nil},
		{"https://login.example", "http://localhost/token", false, nil},
		{"https://login.example", "https://169.254.169.254/token", false, nil},
		{"https://login.example", "https://224.0.0.1/token", false, nil},
		{"https://login.example", "https://u@login.example/token", false, nil},
		{"https://login.example", "https:///token", false, nil},
		{"https://login.example", "https:login.example", false, nil},
		{"https://login.example", "//login.example/token", false, nil},
		{"https://169.254.1.1", "https://169.254.1.1/token", true, nil},
		{"https://127.0.0.1", "https://localhost/token", false, nil},
		{"https://127.0.0.1", "https://localhost/token", true, []string{"localhost"}},
		{"https://127.0.0.1", "http://127.0.0.1/token", false, nil},
		{"http://127.0.0.1:1", "http://127.0.0.1:2/token", true, nil},
		{"http://127.0.0.1:1", "http://login.example/token", false, nil},
		{"http://localhost", "http://127.0.0.2/token", false, nil},
	} {
		client, err := NewClient(ClientConfig{Issuer: c.issuer, Hosts: c.hosts})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.CheckEndpoint(c.endpoint); (err == nil) != c.ok {
			t.Errorf("%s names %s: %v, want accepted %v", c.issuer, c.endpoint, err, c.ok)
		}
	}
}

// A name that was fine and resolves to this machine or a link-local address is
// stopped where the connection is made.
func TestR47Dial(t *testing.T) {
	server := idptest.New(t)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	get := func(issuer, address string) error {
		client, err := NewClient(ClientConfig{Issuer: issuer})
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.http.Get(address) // without the look at the name
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	// Plain HTTP here only because the address is judged before anything is
	// sent; 127.0.0.1 stands for what a name would resolve to.
	if err := get("https://login.example", server.URL+"/jwks"); err == nil || !strings.Contains(err.Error(), "not one a provider can have") {
		t.Errorf("connected to this machine for an issuer elsewhere: %v", err)
	}
	if err := get("https://login.example", "http://localhost:"+at.Port()+"/jwks"); err == nil {
		t.Error("connected to localhost for an issuer elsewhere")
	}
	if err := get(server.URL, server.URL+"/jwks"); err != nil {
		t.Errorf("the issuer's own address: %v", err)
	}
	if n := server.Count(idptest.AtKeys); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
	for text, ok := range map[string]bool{"169.254.169.254": false, "::ffff:169.254.169.254": false, "fe80::1": false, "fe80::1%lo": false, "::1": false,
		"0.0.0.0": false, "::": false, "ff02::1": false, "10.0.0.1": true, "192.168.1.1": true, "fd00::1": true, "93.184.216.34": true} {
		if err := checkAddress(netip.MustParseAddr(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A clock that is set back does not make old keys young again.
func TestCacheClock(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	fetches := 0
	c := NewCache(CacheConfig[int]{Now: func() time.Time { return now }, Fresh: time.Hour, Keep: 24 * time.Hour,
		Fetch: func(context.Context, int, bool) (int, error) { fetches++; return fetches, nil }})
	for _, step := range []struct {
		by   time.Duration
		want int
	}{{0, 1}, {59 * time.Minute, 1}, {time.Minute, 2}, {-30 * time.Second, 2}, {-2 * time.Hour, 3}, {48 * time.Hour, 4}} {
		now = now.Add(step.by)
		if got, _, err := c.Get(t.Context()); err != nil || got != step.want {
			t.Fatalf("after %v: %d, %v; want %d", step.by, got, err, step.want)
		}
	}
}
