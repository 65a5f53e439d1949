package idptest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// respell puts the ID token that the faults ask for in the place of the good
// provider's.
func (s *Server) respell(f faults, answer map[string]any) {
	good, ok := answer["id_token"].(string)
	if !ok {
		return
	}
	if f.rotate {
		s.Rotate()
	}
	made := s.resign(f.tokenFaults, good, func(alg string, claims map[string]any) {
		claims["at_hash"] = AtHash(alg, answer["access_token"].(string))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last.subject, _ = claims["sub"].(string)
		s.last.sid, _ = claims["sid"].(string)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.original[made] = good
	answer["id_token"] = made
}

// resign takes a token of the good provider apart and makes the one that the
// faults ask for.
func (s *Server) resign(f tokenFaults, compact string, more func(alg string, claims map[string]any)) string {
	header, claims := map[string]any{}, map[string]any{}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(compact, ".")[i])
		if err == nil {
			decoder := json.NewDecoder(strings.NewReader(string(raw)))
			decoder.UseNumber()
			err = decoder.Decode(into)
		}
		if err != nil {
			panic(fmt.Sprintf("idptest: the provider's own token: %v", err))
		}
	}
	k := s.signer(f.alg)
	if more != nil {
		more(k.alg, claims)
	}
	return f.make(k, header["typ"].(string), claims)
}

// signer gives the key for an algorithm, "" for the first one that is published.
func (s *Server) signer(alg string) key {
	if alg == "none" || alg == "HS256" {
		return key{alg: alg, kid: "shared-RS256"}
	}
	return s.keyFor(alg)
}

// make is the way of every token from claims to its compact form.
func (f tokenFaults) make(k key, typ string, claims map[string]any) string {
	header := map[string]any{"alg": k.alg, "kid": k.kid, "typ": typ}
	for _, change := range f.header {
		change(header)
	}
	for _, change := range f.claims {
		change(claims)
	}
	payload := marshal(claims)
	for _, change := range f.payload {
		payload = change(payload)
	}
	text := b64([]byte(marshal(header))) + "." + b64([]byte(payload))
	compact := text + "." + b64(signature(k, []byte(text)))
	for _, change := range f.compact {
		compact = change(compact)
	}
	return compact
}

// Sign makes a token of a typ over claims with the provider's key: an access
// token, signed userinfo, whatever a test needs. Faults of tokens change it.
func (s *Server) Sign(t testing.TB, typ string, claims map[string]any, change ...Fault) string {
	t.Helper()
	f := tokenOnly(change)
	copied := map[string]any{}
	for name, value := range claims {
		copied[name] = value
	}
	return f.make(s.signer(f.alg), typ, copied)
}

// Last gives the subject and the session of the last ID token.
func (s *Server) Last() (subject, sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.subject, s.last.sid
}

// LogoutToken makes a logout token that is good for the last sign-in (OpenID
// Connect Back-Channel Logout 1.0, section 2.4) unless faults of tokens change it.
func (s *Server) LogoutToken(t testing.TB, change ...Fault) string {
	t.Helper()
	subject, sid := s.Last()
	now := s.Now()
	s.mu.Lock()
	s.tokens++
	jti := fmt.Sprintf("logout-%d", s.tokens)
	s.mu.Unlock()
	return s.Sign(t, "logout+jwt", map[string]any{
		"iss": s.URL, "aud": s.ClientID, "sub": subject, "sid": sid, "jti": jti, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"events": map[string]any{LogoutEvent: map[string]any{}}, "extra": "to be ignored",
	}, change...)
}

// LogoutEvent is the one member of a logout token's events.
const LogoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// poster carries the good provider's logout tokens to clients, signed with a key
// that is published and with the faults that are on.
type poster struct {
	server *Server
	next   http.RoundTripper
}

func (p *poster) RoundTrip(r *http.Request) (*http.Response, error) {
	next := p.next
	if next == nil {
		next = http.DefaultTransport
	}
	if r.Method != http.MethodPost || r.Body == nil {
		return next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	p.server.mu.Lock()
	f := p.server.faults.inLogout
	p.server.mu.Unlock()
	form.Set("logout_token", p.server.resign(f, form.Get("logout_token"), nil))
	r = r.Clone(r.Context())
	text := form.Encode()
	r.Body, r.ContentLength, r.GetBody = newBody(text), int64(len(text)), nil
	return next.RoundTrip(r)
}

func newBody(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }
