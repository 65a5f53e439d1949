package portal

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// more is what a source does besides signing in, as a test tells it.
type more struct {
	issuer  string
	domains []string
	jwks    []byte

	mu       sync.Mutex // guards the fields below
	refresh  func(keep []byte) (identity.Identity, error)
	patience time.Duration
	depart   func(identity.Departure) (string, error)
	departs  []identity.Departure
}

// newRich is a source that does everything.
func newRich(name, title string) *source {
	s := newSource(name, title)
	s.id.Keep, s.id.Renews = []byte("id-token-of-"+name), true
	s.more = &more{
		issuer: "https://" + name + ".example", patience: time.Hour,
		depart: func(d identity.Departure) (string, error) {
			q := url.Values{"id_token_hint": {string(d.Keep)}, "post_logout_redirect_uri": {d.ReturnURL}, "state": {d.State}}
			return "https://" + name + ".example/end?" + q.Encode(), nil
		},
	}
	return s
}

// whole is the source with what it does besides.
func (s *source) whole() identity.Source {
	if s.more == nil {
		return s
	}
	return rich{s}
}

type rich struct{ *source }

func (s rich) Issuer() string                       { return s.more.issuer }
func (s rich) Domains() []string                    { return s.more.domains }
func (s rich) JWKS(context.Context) ([]byte, error) { return s.more.jwks, nil }

func (s rich) Refresh(_ context.Context, keep []byte) (identity.Identity, error) {
	s.more.mu.Lock()
	f := s.more.refresh
	s.more.mu.Unlock()
	return f(keep)
}

func (s rich) Patience() time.Duration {
	s.more.mu.Lock()
	defer s.more.mu.Unlock()
	return s.more.patience
}

func (s rich) Depart(_ context.Context, d identity.Departure) (string, error) {
	s.more.mu.Lock()
	defer s.more.mu.Unlock()
	s.more.departs = append(s.more.departs, d)
	return s.more.depart(d)
}

// Logout reads a token that is a query: sub, sid, jti, iat. One with "bad" in it has
// failed a check.
func (s rich) Logout(_ context.Context, token string) (identity.Ended, error) {
	q, err := url.ParseQuery(token)
	if err != nil || q.Has("bad") {
		return identity.Ended{}, &identity.Failure{Kind: identity.ErrRefused, Reason: "logout.fake"}
	}
	if q.Has("down") {
		return identity.Ended{}, &identity.Failure{Kind: identity.ErrUnavailable, Reason: "jwks.unreachable"}
	}
	n, _ := strconv.ParseInt(q.Get("iat"), 10, 64)
	at := time.Unix(n, 0)
	return identity.Ended{Subject: q.Get("sub"), Session: q.Get("sid"), Token: q.Get("jti"), Issued: at, Expires: at.Add(2 * time.Minute)}, nil
}

// token is a logout token of now.
func (w *world) token(jti, rest string) string {
	return fmt.Sprintf("jti=%s&iat=%d&%s", jti, w.clock().Unix(), rest)
}

// tell is the provider's notice to a host.
func (w *world) tell(host, source, token string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	body := url.Values{"logout_token": {token}}.Encode()
	return w.post(host, "/.anteroom/backchannel/"+source, body, edit...)
}

// post is what a program sends that is no browser.
func (w *world) post(host, target, body string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Host, r.RemoteAddr = host, "198.51.100.9:443"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range edit {
		f(r)
	}
	answer := httptest.NewRecorder()
	w.portal.ServeHTTP(answer, r)
	return answer
}
