package loopback

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"
)

// TestGuard is the table of ways to reach the service wrongly. Each row changes one thing of a connection that is right.
func TestGuard(t *testing.T) {
	addr := netip.MustParseAddr
	hosts := []string{"localhost", "auth.hospital.example", "*.apps.example"}
	header := func(name, value string) func(*Facts) {
		return func(f *Facts) { f.Header = http.Header{name: {value}} }
	}
	onUnix := func(f *Facts) {
		n := netip.Addr{}
		f.KernelRemote, f.KernelLocal, f.Remote, f.Client, f.Peer = n, n, n, n, &Peer{33, 33, 4711}
	}
	for name, c := range map[string]struct {
		change func(*Facts)
		want   Verdict
		reason string
	}{
		"a local program":               {func(*Facts) {}, Local, ""},
		"HTTP/2":                        {func(f *Facts) { f.ProtoMajor, f.ProtoMinor = 2, 0 }, Local, ""},
		"IPv6 ::1":                      {func(f *Facts) { a := addr("::1"); f.KernelRemote, f.KernelLocal, f.Remote, f.Client = a, a, a, a }, Local, ""},
		"::ffff:127.0.0.1":              {func(f *Facts) { a := addr("::ffff:127.0.0.1"); f.KernelRemote, f.KernelLocal = a, a }, Local, ""},
		"Host without port, upper case": {func(f *Facts) { f.Host, f.SNI = "LOCALHOST", "LocalHost" }, Local, ""},
		"wildcard site":                 {func(f *Facts) { f.Host, f.SNI = "a.apps.example:443", "a.apps.example" }, Local, ""},
		"the zero value":                {func(f *Facts) { *f = Facts{} }, Elsewhere, "elsewhere"},
		"remote client":                 {func(f *Facts) { a := addr("192.0.2.2"); f.KernelRemote, f.Remote, f.Client = a, a, a }, Elsewhere, "elsewhere"},
		"remote client, X-Forwarded-For 127.0.0.1": {func(f *Facts) {
			a := addr("192.0.2.2")
			f.KernelRemote, f.Remote, f.Client = a, a, a
			f.Header = http.Header{"X-Forwarded-For": {"127.0.0.1"}}
		}, Elsewhere, "elsewhere"},
		"trusted remote proxy says client 127.0.0.1":  {func(f *Facts) { f.KernelRemote, f.Remote = addr("192.0.2.2"), addr("192.0.2.2") }, Elsewhere, "elsewhere"},
		"trusted local proxy says client 203.0.113.9": {func(f *Facts) { f.Client = addr("203.0.113.9") }, Refused, "guard.client"},
		"PROXY protocol: stranger says 127.0.0.1":     {func(f *Facts) { f.KernelRemote = addr("192.0.2.2") }, Elsewhere, "elsewhere"},
		"PROXY protocol: local balancer, stranger":    {func(f *Facts) { f.Remote, f.Client = addr("203.0.113.9"), addr("203.0.113.9") }, Refused, "guard.remote"},
		"127.0.0.6, a service mesh":                   {func(f *Facts) { a := addr("127.0.0.6"); f.KernelRemote, f.Remote, f.Client = a, a, a }, Refused, "guard.kernel-remote"},
		"127.255.255.254":                             {func(f *Facts) { f.KernelRemote = addr("127.255.255.254") }, Refused, "guard.kernel-remote"},
		"::ffff:127.0.0.6":                            {func(f *Facts) { f.KernelRemote = addr("::ffff:127.0.0.6") }, Refused, "guard.kernel-remote"},
		"::1 with a zone":                             {func(f *Facts) { f.KernelRemote = addr("::1%eth0") }, Refused, "guard.kernel-remote"},
		"local end is the public address":             {func(f *Facts) { f.KernelLocal = addr("192.0.2.1") }, Refused, "guard.kernel-local"},
		"local end unknown":                           {func(f *Facts) { f.KernelLocal = netip.Addr{} }, Refused, "guard.kernel-local"},
		"the server names no address":                 {func(f *Facts) { f.Remote = netip.Addr{} }, Refused, "guard.remote"},
		"nobody knows the client's address":           {func(f *Facts) { f.Client = netip.Addr{} }, Refused, "guard.client"},
		"HTTP/3 from this host": {func(f *Facts) {
			f.KernelRemote, f.KernelLocal, f.ProtoMajor, f.ProtoMinor = netip.Addr{}, netip.Addr{}, 3, 0
		}, Refused, "guard.kernel-remote"},
		"HTTP/3 from elsewhere": {func(f *Facts) {
			a := addr("192.0.2.2")
			f.KernelRemote, f.KernelLocal, f.Remote, f.Client, f.ProtoMajor = netip.Addr{}, netip.Addr{}, a, a, 3
		}, Elsewhere, "elsewhere"},
		"unknown wrapper, client says loopback": {func(f *Facts) {
			f.KernelRemote, f.KernelLocal, f.Remote = netip.Addr{}, netip.Addr{}, addr("192.0.2.2")
		}, Refused, "guard.kernel-remote"},
		"no address at all":                                  {func(f *Facts) { n := netip.Addr{}; f.KernelRemote, f.KernelLocal, f.Remote, f.Client = n, n, n, n }, Elsewhere, "elsewhere"},
		"Unix socket":                                        {onUnix, Local, ""},
		"Unix socket, nobody knows whose":                    {func(f *Facts) { onUnix(f); f.Peer = &Peer{-1, -1, -1} }, Local, ""}, // the callers' list decides
		"Unix socket, PROXY protocol names a stranger":       {func(f *Facts) { onUnix(f); f.Remote = addr("203.0.113.9") }, Refused, "guard.remote"},
		"Unix socket, trusted_proxies_unix names a stranger": {func(f *Facts) { onUnix(f); f.Client = addr("203.0.113.9") }, Refused, "guard.client"},
		"Unix socket, PROXY protocol names this host":        {func(f *Facts) { onUnix(f); f.Remote, f.Client = addr("127.0.0.1"), addr("127.0.0.1") }, Local, ""},
		"Unix socket with an address of the kernel's":        {func(f *Facts) { f.Peer = &Peer{0, 0, 1} }, Refused, "guard.kernel-remote"},
		"Unix socket, TLS 1.2":                               {func(f *Facts) { onUnix(f); f.TLSVersion = tls.VersionTLS12 }, Refused, "guard.tls"},
		"Unix socket, plain HTTP":                            {func(f *Facts) { onUnix(f); f.TLSVersion, f.HandshakeComplete, f.SNI = 0, false, "" }, Refused, "guard.tls"},
		"Unix socket, another name":                          {func(f *Facts) { onUnix(f); f.SNI = "other.example" }, Refused, "guard.host"},
		"Unix socket, a proxy's trace":                       {func(f *Facts) { onUnix(f); f.Header = http.Header{"Via": {"1.1 x"}} }, Refused, "guard.trace"},
		"Unix socket, HTTP/1.0":                              {func(f *Facts) { onUnix(f); f.ProtoMinor = 0 }, Refused, "guard.protocol"},
		"HTTP/1.0":                                           {func(f *Facts) { f.ProtoMinor = 0 }, Refused, "guard.protocol"},
		"HTTP/3 with addresses":                              {func(f *Facts) { f.ProtoMajor, f.ProtoMinor = 3, 0 }, Refused, "guard.protocol"},
		"plain HTTP":                                         {func(f *Facts) { f.TLSVersion, f.HandshakeComplete, f.SNI = 0, false, "" }, Refused, "guard.tls"},
		"TLS 1.2":                                            {func(f *Facts) { f.TLSVersion = tls.VersionTLS12 }, Refused, "guard.tls"},
		"early data":                                         {func(f *Facts) { f.HandshakeComplete = false }, Refused, "guard.early-data"},
		"no SNI":                                             {func(f *Facts) { f.SNI = "" }, Refused, "guard.host"},
		"SNI of another site":                                {func(f *Facts) { f.SNI = "other.example" }, Refused, "guard.host"},
		"Host of another site":                               {func(f *Facts) { f.Host = "other.example" }, Refused, "guard.host"},
		"DNS rebinding: both evil.test":                      {func(f *Facts) { f.SNI, f.Host = "evil.test", "evil.test:8444" }, Refused, "guard.host"},
		"by address":                                         {func(f *Facts) { f.SNI, f.Host = "", "127.0.0.1:8444" }, Refused, "guard.host"},
		"two labels under a wildcard":                        {func(f *Facts) { f.SNI, f.Host = "a.b.apps.example", "a.b.apps.example" }, Refused, "guard.host"},
		"empty label under a wildcard":                       {func(f *Facts) { f.SNI, f.Host = ".apps.example", ".apps.example" }, Refused, "guard.host"},
		"another Caddy site proxies here":                    {header("Via", "2.0 Caddy"), Refused, "guard.trace"},
		"X-Forwarded-For":                                    {header("X-Forwarded-For", "203.0.113.9"), Refused, "guard.trace"},
		"X-Forwarded-Proto":                                  {header("X-Forwarded-Proto", "https"), Refused, "guard.trace"},
		"X-Forwarded, empty":                                 {header("X-Forwarded", ""), Refused, "guard.trace"},
		"X_Forwarded_For":                                    {header("X_forwarded_for", "1"), Refused, "guard.trace"},
		"x.forwarded.for":                                    {header("x.forwarded.for", "1"), Refused, "guard.trace"},
		"Forwarded":                                          {header("Forwarded", "for=127.0.0.1"), Refused, "guard.trace"},
		"X-Real-Ip":                                          {header("X-Real-Ip", "127.0.0.1"), Refused, "guard.trace"},
		"X-Envoy-External-Address":                           {header("X-Envoy-External-Address", "1"), Refused, "guard.trace"},
		"page in a local browser":                            {header("Sec-Fetch-Mode", "no-cors"), Refused, "guard.trace"},
		"Sec-Ch-Ua":                                          {header("Sec-Ch-Ua", "x"), Refused, "guard.trace"},
		"Origin":                                             {header("Origin", "https://evil.test"), Refused, "guard.trace"},
		"Origin null":                                        {header("Origin", "null"), Refused, "guard.trace"},
		"Referer":                                            {header("Referer", "https://app.example/"), Refused, "guard.trace"},
		"Cookie":                                             {header("Cookie", "a=b"), Refused, "guard.trace"},
		"preflight":                                          {header("Access-Control-Request-Method", "POST"), Refused, "guard.trace"},
		"ordinary headers of a program": {func(f *Facts) {
			f.Header = http.Header{"User-Agent": {"python-requests/2.32"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "Connection": {"keep-alive"}, "Authorization": {"Bearer x"}, "Traceparent": {"00-…"}, "X-Request-Id": {"1"}}
		}, Local, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := goodFacts()
			c.change(&f)
			if v, reason := Judge(f, hosts); v != c.want || reason != c.reason {
				t.Errorf("verdict %d, reason %q", v, reason)
			}
		})
	}
	var zero Verdict
	if zero != Refused {
		t.Error("the zero verdict does not refuse")
	}
	if v, _ := Judge(goodFacts(), nil); v != Refused {
		t.Error("without allowed names the guard lets somebody in")
	}
}

func TestOwns(t *testing.T) {
	for path, want := range map[string]bool{
		"/hmac-service": true, "/hmac-service/": true, "/hmac-service/v1/protect": true, "/hmac-service/x": true,
		"//hmac-service": true, "/./hmac-service": true, "/a/../hmac-service": true, "hmac-service": true, "/hmac-service/../hmac-service": true,
		"/hmac-service/..": true, "/": false, "": false, "/hmac-services": false, "/hmac": false, "/a/hmac-service": false, "/HMAC-SERVICE": false,
	} {
		if Owns("/hmac-service", path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}
