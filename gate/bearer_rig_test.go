package gate

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// desk is an issuer's word about tokens, as identity/bearer gives it, without its cryptography.
type desk struct {
	mu     sync.Mutex
	tokens map[string]*Caller
	err    error         // what happens to every token
	seen   []http.Header // of the requests that it was asked about
}

func (d *desk) Check(r *http.Request) (*Caller, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, r.Header.Clone())
	if strings.Contains(r.URL.RawQuery, "access_token=") {
		return nil, &BearerError{400, "Bearer", "invalid_request", "request.query"}
	}
	values := r.Header["Authorization"]
	if len(values) > 1 {
		return nil, &BearerError{400, "Bearer", "invalid_request", "request.authorization_twice"}
	}
	scheme, token, _ := strings.Cut(strings.Join(values, ""), " ")
	switch strings.ToLower(scheme) {
	case "bearer", "dpop":
	default:
		return nil, nil
	}
	if d.err != nil {
		return nil, d.err
	}
	c := d.tokens[token]
	switch {
	case token == "" || strings.ContainsAny(token, " ,"):
		return nil, &BearerError{400, "Bearer", "invalid_request", "request.authorization"}
	case c == nil:
		return nil, &BearerError{401, scheme, "invalid_token", "token.signature"}
	case !strings.EqualFold(c.Scheme, scheme): // row 71
		return nil, &BearerError{401, scheme, "invalid_token", "token.bound"}
	case c.Scheme == "DPoP" && len(r.Header["Dpop"]) != 1:
		return nil, &BearerError{401, "DPoP", "invalid_dpop_proof", "dpop.missing"}
	}
	return c, nil
}

func (d *desk) Metadata(host string) []byte {
	if host == "none.example" {
		return nil
	}
	return []byte(`{"resource":"https://` + host + `"}`)
}

func (d *desk) Challenge(host string) []string {
	where := `resource_metadata="https://` + host + metadataPath + `"`
	return []string{`DPoP algs="ES256", ` + where, "Bearer " + where}
}

func (d *desk) set(err error) { d.mu.Lock(); d.err = err; d.mu.Unlock() }

func (d *desk) take() []http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.seen
	d.seen = nil
	return seen
}

const (
	challengeDPoP   = `algs="ES256", resource_metadata="https://` + site + metadataPath + `"`
	challengeBearer = `resource_metadata="https://` + site + metadataPath + `"`
)

// fhir are the rules of the resource server of these tests.
var fhir = []string{
	"allow public / /public/**", "allow any /members/**", "allow scope notes.read GET /notes/** /members/notes", "allow scope notes.write role writer POST /notes/**",
	"allow scope patient/Observation.rs GET /fhir/Observation/** /fhir/Patient/{patient}/**", "deny any /notes/closed", "require acr mfa /notes/secret /members/secret /public/secret", "require max_age 5m /notes/secret",
	"require amr otp,hwk /members/secret",
}

// newDesk makes a resource server that knows the tokens t-read, t-write, t-patient and t-dpop.
func newDesk(t testing.TB, change ...func(*Config)) (*rig, *desk) {
	t.Helper()
	d := &desk{}
	r := newRig(t, append([]func(*Config){func(c *Config) { c.Policy, c.Bearer = compile(t, fhir...), d }}, change...)...)
	d.fill(r.clock.now())
	return r, d
}

func (d *desk) fill(now time.Time) {
	caller := func(subject string, scopes ...string) *Caller {
		return &Caller{
			Grant:    session.Grant{Source: "apps", Subject: subject, Username: "app:" + subject, Roles: []string{"lab"}, ACR: "low", AuthTime: now.Add(-time.Hour)},
			ClientID: "heart-app", Scopes: scopes, Expires: now.Add(10 * time.Minute), Scheme: "Bearer", Token: [32]byte{byte(len(subject))},
		}
	}
	d.tokens = map[string]*Caller{"t-read": caller("ann", "notes.read", "openid"), "t-write": caller("bo", "notes.write"), "t-patient": caller("carl", "patient/*.rs"), "t-dpop": caller("dora", "notes.read")}
	d.tokens["t-patient"].Patient, d.tokens["t-dpop"].Scheme = "A-1", "DPoP"
}
