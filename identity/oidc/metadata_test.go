package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// Requirements 3, 20, 41, 47, 48 and row C27: metadata that is not usable means
// no authorization request, a reason, and a source that still works when the
// provider is mended.
func TestMetadataRefused(t *testing.T) {
	set := func(name string, value any) idptest.Fault {
		return idptest.Metadata(func(m map[string]any) {
			if m[name] = value; value == nil {
				delete(m, name)
			}
		})
	}
	r := newRig(t, hasty)
	for _, c := range []struct {
		name, reason string
		fault        idptest.Fault
	}{
		{"C27 issuer with a slash", "discovery.issuer", set("issuer", r.server.URL+"/")},
		{"R41 issuer in another case", "discovery.issuer", set("issuer", strings.ToUpper(r.server.URL))},
		{"R41 issuer with one character more", "discovery.issuer", set("issuer", r.server.URL+"1")},
		{"R41 issuer missing", "discovery.issuer", set("issuer", nil)},
		{"R41 issuer a list", "discovery.issuer", set("issuer", []string{r.server.URL})},
		{"J42 issuer in another spelling of the name", "discovery.issuer", idptest.Metadata(func(m map[string]any) { m["Issuer"] = m["issuer"]; delete(m, "issuer") })},
		{"R3 PKCE plain only", "discovery.pkce", set("code_challenge_methods_supported", []string{"plain"})},
		{"R3 PKCE list empty", "discovery.pkce", set("code_challenge_methods_supported", []string{})},
		{"R3 PKCE not a list", "discovery.pkce", set("code_challenge_methods_supported", 5)},
		{"R20 http token endpoint elsewhere", "discovery.token_endpoint", set("token_endpoint", "http://login.hospital.example/token")},
		{"R20 token endpoint without scheme", "discovery.token_endpoint", set("token_endpoint", "/token")},
		{"R20 ftp", "discovery.token_endpoint", set("token_endpoint", "ftp://127.0.0.1/token")},
		{"R47 keys at a cloud's metadata service", "discovery.jwks_uri", set("jwks_uri", "http://169.254.169.254/latest")},
		{"R47 keys there over https", "discovery.jwks_uri", set("jwks_uri", "https://169.254.169.254/latest")},
		{"R47 keys there in IPv6", "discovery.jwks_uri", set("jwks_uri", "https://[fe80::1]/")},
		{"R47 keys there as a mapped address", "discovery.jwks_uri", set("jwks_uri", "https://[::ffff:169.254.169.254]/")},
		{"R47 keys at a host that is not listed", "discovery.jwks_uri", set("jwks_uri", "https://keys.example/jwks")},
		{"R47 sign-in page at a host that is not listed", "discovery.authorization_endpoint", set("authorization_endpoint", "https://login.example/authorize")},
		{"R47 token endpoint at another name of this machine", "discovery.token_endpoint", set("token_endpoint", strings.Replace(r.server.URL, "127.0.0.1", "localhost", 1)+"/token")},
		{"R47 pushed requests at a host that is not listed", "discovery.pushed_authorization_request_endpoint", set("pushed_authorization_request_endpoint", "https://par.example/")},
		{"R47 sign-out at a host that is not listed", "discovery.end_session_endpoint", set("end_session_endpoint", "https://bye.example/")},
		{"logout tokens perhaps", "discovery.backchannel", set("backchannel_logout_supported", "yes")},
		{"R47 keys in a file", "discovery.jwks_uri", set("jwks_uri", "file:///etc/passwd")},
		{"R47 keys at 0.0.0.0", "discovery.jwks_uri", set("jwks_uri", "https://0.0.0.0/")},
		{"user in an endpoint", "discovery.userinfo_endpoint", set("userinfo_endpoint", "http://a:b@127.0.0.1/userinfo")},
		{"fragment in an endpoint", "discovery.authorization_endpoint", set("authorization_endpoint", r.server.URL+"/authorize#x")},
		{"our parameter in an endpoint", "discovery.authorization_endpoint", set("authorization_endpoint", r.server.URL+"/authorize?response_type=token")},
		{"authorization endpoint missing", "discovery.authorization_endpoint", set("authorization_endpoint", nil)},
		{"token endpoint missing", "discovery.token_endpoint", set("token_endpoint", nil)},
		{"keys missing", "discovery.jwks_uri", set("jwks_uri", nil)},
		{"userinfo a number", "discovery.userinfo_endpoint", set("userinfo_endpoint", 5)},
		{"iss promise a string", "discovery.iss", set("authorization_response_iss_parameter_supported", "true")},
		{"no client_secret_basic", "discovery.client_auth", set("token_endpoint_auth_methods_supported", []string{"client_secret_post"})},
		{"only shared-secret signatures", "discovery.algs", set("id_token_signing_alg_values_supported", []string{"HS256", "none"})},
		{"signatures not a list", "discovery.algs", set("id_token_signing_alg_values_supported", map[string]any{})},
		{"R48 404", "discovery.unreachable", idptest.Status(idptest.AtMetadata, 404)},
		{"R48 500", "discovery.unreachable", idptest.Status(idptest.AtMetadata, 500)},
		{"R48 HTML", "discovery.unreachable", idptest.Status(idptest.AtMetadata, 200)},
		{"R48 connection cut", "discovery.unreachable", idptest.Cut(idptest.AtMetadata)},
		{"R48 no answer", "discovery.unreachable", idptest.Hang(idptest.AtMetadata)},
		{"R47 too large", "discovery.unreachable", idptest.Huge(idptest.AtMetadata, issuer.MaxBody+1)},
		{"R47 redirect to another host", "discovery.unreachable", idptest.RedirectTo(idptest.AtMetadata, "http://127.0.0.1:1/")},
		{"R47 redirect in a circle", "discovery.unreachable", idptest.Replace(idptest.AtMetadata, idptest.GoTo("/.well-known/openid-configuration"))},
		{"J41 duplicate member", "discovery.unreachable", idptest.Text(idptest.AtMetadata, "application/json", `{"issuer":"a","issuer":"b"}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.source = r.another(t, hasty)
			who, err := r.attempt(t, c.fault)
			wantFailure(t, who, err, identity.ErrUnavailable, c.reason)
			if n := r.server.Count(idptest.AtAuthorize); n != 0 {
				t.Error("the browser was sent to the provider")
			}
			r.server.Pass(issuer.FailureFresh)
			r.accepts(t)
		})
	}
}

func TestMetadataAccepted(t *testing.T) {
	r := newRig(t, nil)
	for name, change := range map[string]func(map[string]any){
		"no list of PKCE methods":   func(m map[string]any) { delete(m, "code_challenge_methods_supported") },
		"no list of algorithms":     func(m map[string]any) { delete(m, "id_token_signing_alg_values_supported") },
		"no list of client methods": func(m map[string]any) { delete(m, "token_endpoint_auth_methods_supported") },
		"C34 unknown members": func(m map[string]any) {
			m["registration_endpoint"] = "file:///x"
			m["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": "http://evil.example/"}
		},
		"endpoint at a host that the configuration lists": func(m map[string]any) {
			m["jwks_uri"] = strings.Replace(m["jwks_uri"].(string), "127.0.0.1", "localhost", 1)
		},
		"query in the authorization endpoint": func(m map[string]any) {
			m["authorization_endpoint"] = m["authorization_endpoint"].(string) + "?tenant=a"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.source = r.another(t, func(c *Config) { c.Fetch.Hosts = []string{"localhost"} })
			_, err := r.attempt(t, idptest.Metadata(change))
			// localhost is another host for the provider's own check: only
			// that we go there counts here.
			if err != nil && identity.Reason(err) != "jwks.unreachable" {
				t.Fatal(err)
			}
		})
	}
}

// Requirement 48: New makes no connection, failures are remembered for seconds
// only, and the provider is asked once however many people wait.
func TestDeadProvider(t *testing.T) {
	r := newRig(t, nil)
	if n := r.server.Count(idptest.AtMetadata); n != 0 {
		t.Fatalf("New made %d requests", n)
	}
	r.server.Use(idptest.Status(idptest.AtMetadata, 503))
	for range 5 {
		_, err := r.source.Begin(context.Background(), started)
		if !errors.Is(err, identity.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if n := r.server.Count(idptest.AtMetadata); n != 1 {
		t.Errorf("%d requests within the same second, want 1", n)
	}
	r.server.Pass(issuer.FailureFresh)
	r.accepts(t)
	if !strings.Contains(r.log.String(), "level=ERROR") {
		t.Error("the operator is not told")
	}
}

func TestNobodyListens(t *testing.T) {
	s, err := New(Config{Name: "n", Issuer: "http://127.0.0.1:1", Client: Client{ID: "c", Secret: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Begin(context.Background(), started)
	wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "discovery.unreachable")
	if !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("the operator learns only %q", err)
	}
}

// Row N36.
func TestN36MetadataChanges(t *testing.T) {
	evil := idptest.New(t)
	for name, change := range map[string]func(map[string]any){
		"N36 issuer":                 func(m map[string]any) { m["issuer"] = evil.URL },
		"N36 token endpoint":         func(m map[string]any) { m["token_endpoint"] = evil.URL + "/token" },
		"N36 keys":                   func(m map[string]any) { m["jwks_uri"] = evil.URL + "/jwks" },
		"N36 authorization endpoint": func(m map[string]any) { m["authorization_endpoint"] = evil.URL + "/authorize" },
		"N36 userinfo":               func(m map[string]any) { m["userinfo_endpoint"] = evil.URL + "/userinfo" },
		"N36 pushed requests":        func(m map[string]any) { m["pushed_authorization_request_endpoint"] = evil.URL + "/par" },
		"N36 sign-out":               func(m map[string]any) { m["end_session_endpoint"] = evil.URL + "/end_session" },
		"N36 host that is not known": func(m map[string]any) { m["token_endpoint"] = "https://evil.example/token" },
		"N36 PKCE is gone":           func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} },
		"N36 port":                   func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1:1/token" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.accepts(t)
			r.server.Pass(issuer.MetadataFresh)
			// The old metadata serves on, and somebody hears of it.
			r.accepts(t, idptest.Metadata(change))
			if n := r.server.Count(idptest.AtMetadata); n != 1 {
				t.Errorf("%d requests for the metadata, want 1", n)
			}
			if !strings.Contains(r.log.String(), "level=ERROR") {
				t.Error("no alarm")
			}
			for _, e := range []idptest.Endpoint{idptest.AtToken, idptest.AtKeys, idptest.AtAuthorize, idptest.AtUserInfo} {
				if evil.Count(e) != 0 {
					t.Errorf("%s of the other provider was asked", e)
				}
			}
		})
	}
	t.Run("N36 after the maximum age a provider may have moved", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t)
		r.server.Pass(issuer.MetadataKeep)
		r.server.Use(idptest.Metadata(func(m map[string]any) { m["authorization_endpoint"] = evil.URL + "/authorize" }))
		if to, _ := url.Parse(r.begin(t).RedirectURL); "http://"+to.Host != evil.URL {
			t.Errorf("still sent to %s", to.Host)
		}
	})
	t.Run("N36 sign-out appears elsewhere", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t, idptest.Metadata(noEndSession))
		r.server.Pass(issuer.MetadataFresh)
		r.server.Use(idptest.Metadata(func(m map[string]any) { m["end_session_endpoint"] = evil.URL + "/end_session" }))
		if to, err := r.source.Depart(context.Background(), identity.Departure{}); err != nil || to != "" {
			t.Errorf("people would be sent to %q, %v", to, err)
		}
	})
	t.Run("N36 userinfo appears elsewhere", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t, idptest.Metadata(func(m map[string]any) { delete(m, "userinfo_endpoint") }))
		r.server.Pass(issuer.MetadataFresh)
		r.accepts(t, lean, idptest.Metadata(func(m map[string]any) { m["userinfo_endpoint"] = evil.URL + "/userinfo" }))
		if n := evil.Count(idptest.AtUserInfo); n != 0 {
			t.Error("the access token went to the other provider")
		}
	})
}

func TestMetadataKeptWhileProviderIsDown(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	r.server.Pass(issuer.MetadataFresh)
	r.accepts(t, idptest.Status(idptest.AtMetadata, 503))
	r.accepts(t, idptest.Status(idptest.AtMetadata, 503))
	if n := r.server.Count(idptest.AtMetadata); n != 0 {
		t.Errorf("asked %d times again within a minute", n)
	}
	r.server.Pass(issuer.RetryAfter)
	r.accepts(t, idptest.Status(idptest.AtMetadata, 503))
	if n := r.server.Count(idptest.AtMetadata); n != 1 {
		t.Errorf("asked %d times after a minute, want 1", n)
	}
	r.server.Pass(issuer.MetadataKeep)
	who, err := r.attempt(t, idptest.Status(idptest.AtMetadata, 503))
	wantFailure(t, who, err, identity.ErrUnavailable, "discovery.unreachable")
}

// Cookies are not kept and a given client's own are not sent.
func TestNoCookies(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Fetch.HTTPClient = &http.Client{Transport: cookieMonster{http.DefaultTransport}} })
	r.accepts(t)
	for _, e := range []idptest.Endpoint{idptest.AtMetadata, idptest.AtKeys, idptest.AtToken} {
		for _, request := range r.server.Requests(e) {
			if request.Header.Get("Cookie") != "" {
				t.Errorf("%s got a cookie", e)
			}
		}
	}
}

// cookieMonster offers a cookie with every answer.
type cookieMonster struct{ inner http.RoundTripper }

func (m cookieMonster) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := m.inner.RoundTrip(r)
	if err == nil {
		response.Header.Add("Set-Cookie", "sid=1; Path=/")
	}
	return response, err
}

// Row 24: with a list of algorithms in the configuration nothing else is accepted,
// whatever the provider offers.
func TestR24PinnedAlgorithms(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Algs = []string{"ES256"} })
	r.accepts(t, idptest.SignWith("ES256"))
	who, err := r.attempt(t, idptest.SignWith("RS256"))
	wantFailure(t, who, err, identity.ErrRefused, "idtoken.alg")
	e, err := r.source.Logout(t.Context(), r.server.LogoutToken(t, idptest.SignWith("RS256")))
	wantNoEnd(t, e, err, "logout.alg")
	for name, algs := range map[string][]string{"not offered": {"PS512"}, "shared secret": {"HS256"}, "none": {"none"}} {
		document := jws.Claims{"id_token_signing_alg_values_supported": json.RawMessage(`["RS256","HS256","none"]`)}
		if got, err := acceptedAlgs(document, algs); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, err := acceptedAlgs(jws.Claims{}, []string{"HS256", "none", "ES384"}); err != nil || len(got) != 1 || got[0] != "ES384" {
		t.Errorf("got %v, %v", got, err)
	}
}
