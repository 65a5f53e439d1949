package caddymodule

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// ask is a request as it comes to the admin API over a connection with these addresses; local "" is a unix socket.
func ask(method, local, remote, host string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "http://x/anteroom/sessions", nil)
	r.Host, r.RemoteAddr = host, remote
	var addr net.Addr = &net.UnixAddr{Name: "/run/admin.sock", Net: "unix"}
	if local != "" {
		addr, _ = net.ResolveTCPAddr("tcp", local)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
}

// TestRowS17AdminAddresses: whoever is not on this host gets nothing, whatever the request says of itself; and neither does
// a page that a browser on this host has open.
func TestRowS17AdminAddresses(t *testing.T) {
	const l4, l6, peer, name = "127.0.0.1:2019", "[::1]:2019", "127.0.0.1:50000", "localhost:2019"
	for what, c := range map[string]struct {
		r    *http.Request
		want string // who asks, "" for nobody who may
		kind string
	}{
		"unix socket":             {ask("GET", "", "@", "127.0.0.1"), "unix", ""},
		"unix socket, any name":   {ask("GET", "", "@", "sock"), "unix", ""},
		"loopback":                {ask("GET", l4, peer, name), "127.0.0.1", ""},
		"loopback, v6":            {ask("GET", l6, "[::1]:50000", "[::1]:2019"), "::1", ""},
		"loopback in v6 form":     {ask("GET", "[::ffff:127.0.0.1]:2019", "[::ffff:127.0.0.1]:50000", "127.0.0.1:2019"), "127.0.0.1", ""},
		"our own Origin":          {ask("POST", l4, peer, name, "Origin", "http://localhost:2019"), "127.0.0.1", ""},
		"typed into a browser":    {ask("GET", l4, peer, name, "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), "127.0.0.1", ""},
		"other address":           {ask("GET", "192.0.2.1:2019", "192.0.2.9:50000", "192.0.2.1:2019"), "", "not-local"},
		"other address, near end": {ask("GET", "192.0.2.1:2019", "192.0.2.1:50000", name), "", "not-local"},
		"service mesh":            {ask("GET", "127.0.0.6:2019", "127.0.0.6:50000", name), "", "not-local"},
		"routed to loopback":      {ask("GET", l4, "192.0.2.9:50000", name), "", "not-local"},
		"no local address":        {httptest.NewRequest("GET", "http://localhost:2019/anteroom/sessions", nil), "", "not-local"},
		"rebound name":            {ask("GET", l4, peer, "rebind.evil.example:2019"), "", "not-local"},
		"rebound name and Origin": {ask("GET", l4, peer, "rebind.evil.example:2019", "Origin", "http://rebind.evil.example:2019"), "", "not-local"},
		"name that begins so":     {ask("GET", l4, peer, "localhost.evil.example:2019"), "", "not-local"},
		"wildcard as a name":      {ask("GET", l4, peer, "0.0.0.0:2019"), "", "not-local"},
		"no name":                 {ask("GET", l4, peer, ""), "", "not-local"},
		"foreign Origin":          {ask("POST", l4, peer, name, "Origin", "https://evil.example"), "", "cross-origin"},
		"Origin null":             {ask("POST", l4, peer, name, "Origin", "null"), "", "cross-origin"},
		"Origin of another port":  {ask("POST", l4, peer, name, "Origin", "http://localhost:3000"), "", "cross-origin"},
		"Origin by https":         {ask("POST", l4, peer, name, "Origin", "https://localhost:2019"), "", "cross-origin"},
		"two Origins":             {ask("POST", l4, peer, name, "Origin", "http://localhost:2019", "Origin", "https://evil.example"), "", "cross-origin"},
		"Origin over the socket":  {ask("POST", "", "@", "127.0.0.1", "Origin", "https://evil.example"), "", "cross-origin"},
		"foreign Referer":         {ask("GET", l4, peer, name, "Referer", "https://evil.example/x"), "", "cross-origin"},
		"fetch cross-site":        {ask("GET", l4, peer, name, "Sec-Fetch-Site", "cross-site"), "", "cross-origin"},
		"fetch same-site":         {ask("GET", l4, peer, name, "Sec-Fetch-Site", "same-site"), "", "cross-origin"},
		"fetch without a site":    {ask("GET", l4, peer, name, "Sec-Fetch-Mode", "cors"), "", "cross-origin"},
		"fetch with two sites":    {ask("GET", l4, peer, name, "Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"), "", "cross-origin"},
		"through a proxy":         {ask("GET", l4, peer, name, "X-Forwarded-For", "192.0.2.9"), "", "not-local"},
		"through Caddy itself":    {ask("GET", "", "@", "127.0.0.1", "Via", "1.1 Caddy"), "", "not-local"},
	} {
		got, no := askerOf(c.r)
		switch {
		case c.want != "" && (no != nil || got != c.want):
			t.Errorf("%s: %q %v, want %q", what, got, no, c.want)
		case c.want == "" && (no == nil || no.status != http.StatusForbidden || no.kind != c.kind):
			t.Errorf("%s: %q %+v, want 403 %s", what, got, no, c.kind)
		}
	}
}

// TestRowS17AdminContentType: what a foreign page can send without asking first (a form, text/plain) is no JSON.
func TestRowS17AdminContentType(t *testing.T) {
	for kind, ok := range map[string]bool{
		"application/json": true, "application/json; charset=utf-8": true, "Application/JSON": true,
		"": false, "text/plain": false, "application/x-www-form-urlencoded": false, "multipart/form-data; boundary=x": false,
		"text/plain; application/json": false, "application/jsonp": false, "application/json,text/plain": false,
	} {
		no := wantJSON(ask("POST", "", "@", "x", "Content-Type", kind))
		if ok != (no == nil) || no != nil && no.status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %+v", kind, no)
		}
	}
	if wantJSON(ask("POST", "", "@", "x", "Content-Type", "application/json", "Content-Type", "text/plain")) == nil {
		t.Error("two content types pass")
	}
}
