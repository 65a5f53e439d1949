package bearer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

// Site is what one site accepts. The zero Site accepts nothing.
type Site struct {
	Issuers  []*Issuer
	Audience string   // what a token's aud must hold; empty: "https://" and the request's host
	Unbound  bool     // tokens that name no key pass (RFC 6750 alone): whoever has one can use it
	Scopes   []string // that the site knows, for its metadata
}

// Request is what a request shows of itself. Nothing in it is believed but the
// certificate.
type Request struct {
	Method        string
	Host          string // as the client sent it
	Path          string // as the client sent it, without query
	Query         string
	Authorization []string          // the values of all headers of that name
	DPoP          []string          // likewise
	Certificate   *x509.Certificate // of the client, on this very connection; nil: none
}

// Caller is whom a token speaks for. (Issuer, Subject) is the account, as with a
// person who signs in.
type Caller struct {
	Source, Issuer, Subject string
	Username, Name, Email   string
	Roles                   []string
	Claims                  map[string]string // what rules may ask for besides; personal
	ClientID                string            // the application that holds the token; may be empty with introspection
	Scopes                  []string
	Patient                 string // of the SMART launch; empty: none
	ACR                     string
	AMR                     []string
	AuthTime                time.Time // zero: not said
	Expires                 time.Time // from here on the token is refused; the leeway is in it
	Scheme                  string    // "Bearer" or "DPoP"
	Token                   [sha256.Size]byte
}

// Valid says what is wrong with a site that would load and not work.
func (s *Site) Valid() error {
	if len(s.Issuers) == 0 {
		return errors.New("no bearer issuer: write `bearer from NAME`")
	}
	seen := map[string]string{}
	asked := ""
	for _, i := range s.Issuers {
		if other, twice := seen[i.issuer]; twice {
			return fmt.Errorf("bearer issuers %s and %s are the same issuer: a token cannot say which of them it means", other, i.name)
		}
		seen[i.issuer] = i.name
		if i.answers == nil {
			continue
		}
		if asked != "" {
			return fmt.Errorf("bearer issuers %s and %s both introspect: an opaque token does not say whose it is, and each would be shown the other's; let one of them issue JWTs", asked, i.name)
		}
		asked = i.name
	}
	return nil
}

// Check judges a request's access token. Without one it returns nil and nil. A
// token that is not honoured is a [Refusal]; any other error is of kind
// identity.ErrUnavailable, and the request must be refused as well.
func (s *Site) Check(ctx context.Context, r Request) (*Caller, error) {
	if TokenInQuery(r.Query) {
		return nil, no("request.query").with(schemeBearer)
	}
	scheme, token, err := readAuthorization(r.Authorization)
	if err == nil && scheme == "" {
		return nil, nil
	}
	var caller *Caller
	if err == nil {
		caller, err = s.check(ctx, r, scheme, token)
	}
	if err == nil {
		return caller, nil
	}
	if refused, ok := errors.AsType[no](err); ok {
		return nil, refused.with(scheme)
	}
	if !errors.Is(err, identity.ErrUnavailable) {
		err = unavailable("bearer.failed", err)
	}
	return nil, err
}

func (s *Site) check(ctx context.Context, r Request, scheme, token string) (*Caller, error) {
	i, f, err := s.judge(ctx, token)
	if err != nil {
		return nil, err
	}
	now := i.now()
	if err := f.current(now); err != nil {
		return nil, err
	}
	host, ok := normaliseHost(r.Host)
	if !ok {
		return nil, no("token.aud")
	}
	audience := s.Audience
	if audience == "" {
		audience = "https://" + host
	}
	if !slices.Contains(f.audience, audience) {
		return nil, no("token.aud")
	}
	if err := s.confirm(ctx, i, f.key, r, "https://"+host, scheme, token, now); err != nil {
		return nil, err
	}
	caller := f.caller
	caller.Roles, caller.Scopes, caller.AMR = slices.Clone(caller.Roles), slices.Clone(caller.Scopes), slices.Clone(caller.AMR)
	caller.Claims = maps.Clone(caller.Claims)
	caller.Scheme, caller.Token = scheme, sha256.Sum256([]byte(token))
	return &caller, nil
}

// judge finds the issuer whose token it is and asks for its word. What a token says
// of its issuer chooses among those of the site and nothing else.
func (s *Site) judge(ctx context.Context, token string) (*Issuer, facts, error) {
	parsed, err := jws.Parse(token)
	if err != nil {
		return s.judgeOpaque(ctx, token, err)
	}
	claims, err := parsed.Claims()
	if err != nil {
		return nil, facts{}, no("token.malformed")
	}
	name, _, err := claims.String("iss")
	for _, i := range s.Issuers {
		if err != nil || i.issuer != name {
			continue
		}
		// Tokens of other profiles are not shown to the issuer either: it
		// may find them good for something.
		if typ := parsed.Header.Typ; i.answers != nil && typ != "" && !jws.TypeIs(typ, "JWT") && !jws.TypeIs(typ, typeAccess) {
			return nil, facts{}, no("token.typ")
		}
		f, err := i.judge(ctx, token, parsed)
		return i, f, err
	}
	return nil, facts{}, no("token.iss")
}

// judgeOpaque is for what package jws does not read: a bad JWT, or none at all.
func (s *Site) judgeOpaque(ctx context.Context, token string, cause error) (*Issuer, facts, error) {
	if errors.Is(cause, jws.ErrAlgorithm) {
		return nil, facts{}, no("token.alg")
	}
	var asked *Issuer
	for _, i := range s.Issuers {
		if i.answers == nil {
			continue
		}
		if asked != nil {
			return nil, facts{}, unavailable("bearer.ambiguous", errors.New("two issuers introspect, and an opaque token does not say whose it is"))
		}
		asked = i
	}
	if asked == nil || looksLikeJOSE(token) {
		return nil, facts{}, no("token.malformed")
	}
	f, err := asked.judge(ctx, token, nil)
	return asked, f, err
}

// looksLikeJOSE: the first part is a JSON object, however it is encoded.
func looksLikeJOSE(token string) bool {
	first, _, dotted := strings.Cut(token, ".")
	if !dotted || len(first) < 4 {
		return false
	}
	head, err := base64.RawURLEncoding.DecodeString(first[:4])
	return err == nil && strings.HasPrefix(strings.TrimLeft(string(head), " \t\r\n"), "{")
}

// confirm holds a bound token to its key (RFC 9449, section 7; RFC 8705, section
// 3). The scheme decides nothing: a bound token is no less bound under another one.
func (s *Site) confirm(ctx context.Context, i *Issuer, key confirmation, r Request, origin, scheme, token string, now time.Time) error {
	switch {
	case key.none() && scheme == schemeBearer && s.Unbound:
		return nil
	case key.none():
		return no("token.unbound")
	case key.dpop != "" && scheme != schemeDPoP:
		return no("token.bound")
	case key.dpop == "" && scheme == schemeDPoP:
		return no("token.unbound") // a proof by a key that the token does not name proves nothing
	}
	if key.certificate != "" && !isCertificate(r.Certificate, key.certificate) {
		return no("token.certificate")
	}
	if key.dpop == "" {
		return nil
	}
	path, ok := normalisePath(r.Path)
	if !ok || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
		return no("dpop.htu")
	}
	sum := sha256.Sum256([]byte(token))
	want := expected{method: r.Method, target: origin + path, token: base64.RawURLEncoding.EncodeToString(sum[:]), thumbprint: key.dpop}
	u, err := checkProof(r.DPoP, want, now)
	if err != nil {
		return err
	}
	return i.proofs.Load().first(ctx, i.issuer, u, want)
}
