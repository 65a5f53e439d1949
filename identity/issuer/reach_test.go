package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Requirement 47: configurations that cannot work are refused when they are read.
func TestClientConfigRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config ClientConfig
		want   string
	}{
		"no issuer":              {ClientConfig{}, "issuer is missing"},
		"http":                   {ClientConfig{Issuer: "http://login.example"}, "without TLS"},
		"host with a scheme":     {ClientConfig{Hosts: []string{"https://keys.example"}}, "host's name alone"},
		"host with a port":       {ClientConfig{Hosts: []string{"keys.example:443"}}, "host's name alone"},
		"host with a path":       {ClientConfig{Hosts: []string{"keys.example/x"}}, "host's name alone"},
		"any host":               {ClientConfig{Hosts: []string{"*.example"}}, "host's name alone"},
		"no host":                {ClientConfig{Hosts: []string{""}}, "host's name alone"},
		"host that ends in dots": {ClientConfig{Hosts: []string{"keys.example."}}, "host's name alone"},
		"host with a zone":       {ClientConfig{Hosts: []string{"fe80::1%eth0"}}, "host's name alone"},
		"proxy without a scheme": {ClientConfig{Proxy: &url.URL{Host: "p:3128"}}, "proxy"},
		"proxy of another kind":  {ClientConfig{Proxy: &url.URL{Scheme: "ftp", Host: "p"}}, "proxy"},
		"certificate without":    {ClientConfig{Certificate: &tls.Certificate{PrivateKey: key}}, "client certificate"},
		"certificate alone":      {ClientConfig{Certificate: &tls.Certificate{Certificate: [][]byte{{1}}}}, "client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.config.Issuer == "" && name != "no issuer" {
				c.config.Issuer = "https://login.example"
			}
			if _, err := NewClient(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := NewClient(ClientConfig{Issuer: "https://login.example", Hosts: []string{"keys.example", "10.0.0.7", "fd00::7", "a_b"}}); err != nil {
		t.Error(err)
	}
}

// Requirement 47: Do sends nothing to a host that is not listed, whoever asks.
func TestR47OnlyListedHosts(t *testing.T) {
	var reached atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	client := clientOf(t, ClientConfig{Issuer: "http://127.0.0.1:1"})
	open := clientOf(t, ClientConfig{Issuer: "http://127.0.0.1:1", HTTPClient: &http.Client{Transport: http.DefaultTransport}}) // goes wherever it is sent
	for _, c := range []*Client{client, open} {
		_, err := c.JSON(t.Context(), elsewhere, "")
		if err == nil || reached.Load() != 0 {
			t.Errorf("asked a host that is not listed: %v", err)
		}
	}
	if err := client.CheckEndpoint(elsewhere); err == nil || !strings.Contains(err.Error(), "`hosts localhost`") {
		t.Errorf("the operator does not learn what to write: %v", err)
	}
	if err := client.CheckEndpoint("https://evil.example`\n/x"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q", err)
	}
	client = clientOf(t, ClientConfig{Issuer: "http://127.0.0.1:1", Hosts: []string{"localhost"}})
	if _, err := client.JSON(t.Context(), elsewhere, ""); reached.Load() != 1 {
		t.Errorf("did not ask a host that is listed: %v", err)
	}
}

func poolOf(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

// serveTLS starts a server that has a certificate for example.com and 127.0.0.1.
func serveTLS(t *testing.T, config *tls.Config, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = config
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// With roots of its own a provider is believed by these and no others.
func TestRoots(t *testing.T) {
	server := serveTLS(t, nil, answer("application/json", "{}"))
	_, err := clientOf(t, ClientConfig{Issuer: server.URL}).JSON(t.Context(), server.URL, "")
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("an unknown authority: %v", err)
	}
	if _, err := clientOf(t, ClientConfig{Issuer: server.URL, Roots: poolOf(server)}).JSON(t.Context(), server.URL, ""); err != nil {
		t.Errorf("its own authority: %v", err)
	}
	if _, err := clientOf(t, ClientConfig{Issuer: server.URL, Roots: x509.NewCertPool()}).JSON(t.Context(), server.URL, ""); err == nil {
		t.Error("no authority: connected")
	}
	old := serveTLS(t, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, answer("application/json", "{}"))
	if _, err := clientOf(t, ClientConfig{Issuer: old.URL, Roots: poolOf(old)}).JSON(t.Context(), old.URL, ""); err == nil {
		t.Error("connected with TLS 1.1")
	}
	named := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	if _, err := clientOf(t, ClientConfig{Issuer: named, Roots: poolOf(server)}).JSON(t.Context(), named, ""); err == nil {
		t.Error("connected to a name that the certificate does not have")
	}
}

// The client certificate is shown, and only where it is configured.
func TestClientCertificate(t *testing.T) {
	var shown atomic.Int32
	server := serveTLS(t, &tls.Config{ClientAuth: tls.RequestClientCert}, func(w http.ResponseWriter, r *http.Request) {
		shown.Store(int32(len(r.TLS.PeerCertificates)))
		_, _ = io.WriteString(w, "{}")
	})
	key, der := selfSigned(t)
	mine := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for name, c := range map[string]struct {
		certificate *tls.Certificate
		want        int32
	}{"with": {mine, 1}, "without": {nil, 0}} {
		client := clientOf(t, ClientConfig{Issuer: server.URL, Roots: poolOf(server), Certificate: c.certificate})
		if _, err := client.JSON(t.Context(), server.URL, ""); err != nil || shown.Load() != c.want {
			t.Errorf("%s: %d shown, %v", name, shown.Load(), err)
		}
	}
}

// A configured proxy carries everything but what is on this machine. It may be on
// this machine itself, where a provider elsewhere may not.
func TestProxy(t *testing.T) {
	server := serveTLS(t, nil, answer("application/json", "{}"))
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var asked sync.Map
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method+" "+r.Host, true)
		up, err := net.Dial("tcp", at.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		raw("HTTP/1.1 200 OK\r\n\r\n", func(down net.Conn) {
			go func() { _, _ = io.Copy(up, down); up.Close() }()
			_, _ = io.Copy(down, up)
		})(w, r)
	})
	via, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, ClientConfig{Issuer: "https://example.com", Roots: poolOf(server), Proxy: via})
	if _, err := client.JSON(t.Context(), "https://example.com/x", ""); err != nil {
		t.Fatal(err)
	}
	if _, ok := asked.Load("CONNECT example.com:443"); !ok {
		t.Error("the proxy was not asked")
	}
	asked.Clear()
	client = clientOf(t, ClientConfig{Issuer: server.URL, Roots: poolOf(server), Proxy: via})
	if _, err := client.JSON(t.Context(), server.URL, ""); err != nil {
		t.Fatal(err)
	}
	asked.Range(func(what, _ any) bool {
		t.Errorf("the proxy saw %v", what)
		return true
	})
}

// Metadata is found where the two standards put it, and names its issuer byte for
// byte (requirement 41).
func TestDiscover(t *testing.T) {
	var paths []string
	issuer, found := "", ""
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if r.URL.Path != found {
			http.NotFound(w, r)
			return
		}
		answer("application/json", `{"issuer":"`+issuer+`"}`)(w, r)
	})
	for _, c := range []struct {
		name, path, named, found string
		places                   []string
		want                     string // paths asked for
		reason                   string
	}{
		{"OpenID Connect", "", "", "/.well-known/openid-configuration", nil, "/.well-known/openid-configuration", ""},
		{"with a path", "/realms/a", "/realms/a", "/realms/a/.well-known/openid-configuration", nil, "/realms/a/.well-known/openid-configuration", ""},
		{"with a slash", "/a/", "/a/", "/a/.well-known/openid-configuration", nil, "/a/.well-known/openid-configuration", ""},
		{"RFC 8414", "/a", "/a", "/.well-known/oauth-authorization-server/a", []string{OpenID, OAuth}, "/a/.well-known/openid-configuration /.well-known/oauth-authorization-server/a", ""},
		{"RFC 8414 only", "", "", "/.well-known/oauth-authorization-server", []string{OAuth}, "/.well-known/oauth-authorization-server", ""},
		{"R41 a slash more", "/a", "/a/", "/a/.well-known/openid-configuration", nil, "/a/.well-known/openid-configuration", "discovery.issuer"},
		{"R41 the second place is not asked after a wrong first", "/a", "/b", "/a/.well-known/openid-configuration", []string{OpenID, OAuth}, "/a/.well-known/openid-configuration", "discovery.issuer"},
		{"nowhere", "/a", "", "", []string{OpenID, OAuth}, "/a/.well-known/openid-configuration /.well-known/oauth-authorization-server/a", "discovery.unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			paths, found, issuer = nil, c.found, server.URL+c.named
			_, err := clientOf(t, ClientConfig{Issuer: server.URL + c.path}).Discover(t.Context(), c.places...)
			if reasonOf(err) != c.reason {
				t.Errorf("got %v, want %q", err, c.reason)
			}
			if got := strings.Join(paths, " "); got != c.want {
				t.Errorf("asked for %s, want %s", got, c.want)
			}
		})
	}
}
