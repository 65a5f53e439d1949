package session

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	idBytes    = 16 // of sid and jti: 128 bits of randomness
	idLength   = 22 // the same in base64url
	maxSubject = 255
	maxRole    = 64

	maxGroups    = 64
	maxClaims    = 8
	maxClaimName = 32
	maxClaimText = 255

	// aheadAtMost is how far another node's clock may be ahead of ours when it
	// wrote a token. It makes no token live longer.
	aheadAtMost = time.Minute
)

// statement is what a session token and an assertion both say: who, as what, from
// whom, to whom, and how long it holds.
type statement struct {
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"`
	Subject  string   `json:"sub"`
	Source   string   `json:"idp"`
	Username string   `json:"preferred_username,omitempty"`
	Name     string   `json:"name,omitempty"`
	Email    string   `json:"email,omitempty"`
	Roles    []string `json:"roles"`
	Groups   []string `json:"groups,omitempty"`
	Org      string   `json:"org,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	TokenID  string   `json:"jti"`
	ID       string   `json:"sid,omitempty"`
}

// wire is the payload of a session token.
type wire struct {
	statement
	Claims   map[string]string `json:"claims,omitempty"` // not for applications
	Device   bool              `json:"device,omitempty"`
	Started  int64             `json:"start"`
	Provider string            `json:"idp_sid,omitempty"`
	Verify   bool              `json:"verify,omitempty"`
	Confirm  confirmation      `json:"cnf"`
}

// confirmation binds the token to the context cookie (RFC 7800, section 3.1:
// other members of cnf are allowed by profile).
type confirmation struct {
	Context string `json:"ctx#S256"`
}

func (s *Session) wire() wire {
	return wire{
		statement: s.statement(s.Audience, s.IssuedAt, s.Expires, s.TokenID, s.ID),
		Claims:    s.Claims, Device: s.Device, Started: s.Started.Unix(), Provider: s.ProviderSession, Verify: s.verify,
		Confirm: confirmation{base64.RawURLEncoding.EncodeToString(s.context[:])},
	}
}

// statement says of the session what does not depend on the kind of token, besides
// what the kind decides.
func (s *Session) statement(audience string, issued, expires time.Time, tokenID, id string) statement {
	w := statement{
		Issuer: s.Issuer, Audience: audience, Subject: s.Subject, Source: s.Source,
		Username: s.Username, Name: s.Name, Email: s.Email, Roles: s.Roles, Groups: s.Groups, Org: s.Org,
		ACR: s.ACR, AMR: s.AMR,
		IssuedAt: issued.Unix(), Expires: expires.Unix(), TokenID: tokenID, ID: id,
	}
	if w.Roles == nil {
		w.Roles = []string{}
	}
	if !s.AuthTime.IsZero() {
		w.AuthTime = s.AuthTime.Unix()
	}
	return w
}

// reader collects claims and remembers the first thing that was wrong.
type reader struct {
	claims jws.Claims
	err    error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) text(name string, required bool) string {
	s, present, err := r.claims.String(name)
	if err != nil || required && (!present || s == "") {
		r.fail(fmt.Errorf("claim %s", name))
	}
	return s
}

func (r *reader) list(name string, required bool) []string {
	// A single string is a list in foreign tokens; ours always has an array.
	raw, present := r.claims[name]
	if !present {
		if required {
			r.fail(fmt.Errorf("claim %s", name))
		}
		return nil
	}
	l, _, err := r.claims.Strings(name)
	if err != nil || raw[0] != '[' {
		r.fail(fmt.Errorf("claim %s", name))
	}
	return slices.Clip(l)
}

func (r *reader) time(name string, required bool) time.Time {
	t, present, err := r.claims.Time(name)
	if err != nil || required && !present {
		r.fail(fmt.Errorf("claim %s", name))
	}
	if !present {
		return time.Time{}
	}
	return t.UTC()
}

func (r *reader) flag(name string) bool {
	value, _, err := r.claims.Bool(name)
	if err != nil {
		r.fail(fmt.Errorf("claim %s", name))
	}
	return value
}

// texts is an object of texts.
func (r *reader) texts(name string) map[string]string {
	object, present, err := r.claims.Object(name)
	if err != nil {
		r.fail(fmt.Errorf("claim %s", name))
	}
	if !present {
		return nil
	}
	texts := make(map[string]string, len(object))
	for member := range object {
		text, _, err := object.String(member)
		if err != nil {
			r.fail(fmt.Errorf("claim %s", name))
		}
		texts[member] = text
	}
	return texts
}

// readSession takes a session out of the claims of a verified token and checks
// everything about it that does not depend on the request: types, the site, the
// times, the confirmation.
func (m *Manager) readSession(claims jws.Claims, now time.Time) (*Session, error) {
	r := reader{claims: claims}
	s := &Session{
		Grant: Grant{
			Source: r.text("idp", true), Subject: r.text("sub", true),
			Username: r.text("preferred_username", false), Name: r.text("name", false),
			Email: r.text("email", false), Roles: r.list("roles", true),
			Groups: r.list("groups", false), Claims: r.texts("claims"), Device: r.flag("device"),
			Org: r.text("org", false), ACR: r.text("acr", false), AMR: r.list("amr", false),
			AuthTime: r.time("auth_time", false), ProviderSession: r.text("idp_sid", false),
		},
		ID: r.text("sid", true), TokenID: r.text("jti", true),
		Issuer: r.text("iss", true), Audience: r.text("aud", true),
		IssuedAt: r.time("iat", true), Expires: r.time("exp", true), Started: r.time("start", true),
	}
	s.verify = r.flag("verify")
	if notBefore := r.time("nbf", false); notBefore.After(now) {
		r.fail(fmt.Errorf("claim nbf"))
	}
	life := m.lifetime.Of(s.Roles)
	s.idle, s.Ends = life.Idle, s.Started.Add(life.Absolute)
	cnf, _, err := claims.Object("cnf")
	if err != nil || len(cnf) != 1 {
		// A second way to confirm that we do not know would go unchecked.
		r.fail(fmt.Errorf("claim cnf"))
	}
	hash, _, err := cnf.String("ctx#S256")
	var ok bool
	if s.context, ok = decodeContext(hash); err != nil || !ok {
		r.fail(fmt.Errorf("claim cnf"))
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case !isID(s.ID) || !isID(s.TokenID):
		return nil, fmt.Errorf("claim sid or jti")
	case !isIssuer(s.Issuer, s.Audience):
		return nil, fmt.Errorf("claim iss or aud")
	case s.IssuedAt.After(now.Add(aheadAtMost)) || !s.Expires.After(s.IssuedAt) || s.Expires.Sub(s.IssuedAt) > longestIdle:
		return nil, fmt.Errorf("claim iat or exp")
	case s.Started.After(s.IssuedAt):
		return nil, fmt.Errorf("claim start")
	case s.ProviderSession != "" && !isID(s.ProviderSession):
		return nil, fmt.Errorf("claim idp_sid")
	}
	// The lifetimes may be shorter now than when the token was made.
	s.Expires = earlier(s.Expires, earlier(s.IssuedAt.Add(s.idle), s.Ends))
	return s, s.Grant.check()
}

// check refuses what no session may hold. Control characters would end up in
// headers and logs, a comma in a role would become two roles in a header.
func (g Grant) check() error {
	if g.Source == "" || len(g.Source) > maxRole || g.Subject == "" || len(g.Subject) > maxSubject {
		return fmt.Errorf("source or subject empty or too long: %w", ErrGrant)
	}
	for _, s := range []string{g.Source, g.Subject, g.Username, g.Name, g.Email, g.Org, g.ACR} {
		if !isText(s) {
			return fmt.Errorf("control character or invalid UTF-8: %w", ErrGrant)
		}
	}
	for _, s := range g.AMR {
		if s == "" || !isText(s) {
			return fmt.Errorf("authentication method: %w", ErrGrant)
		}
	}
	for _, role := range g.Roles {
		if !isRole(role) {
			return fmt.Errorf("role name: %w", ErrGrant)
		}
	}
	if err := g.checkMore(); err != nil {
		return err
	}
	if !g.AuthTime.IsZero() && g.AuthTime.Unix() < 1 {
		return fmt.Errorf("authentication time: %w", ErrGrant)
	}
	return nil
}

// checkMore is check for groups and claims.
func (g Grant) checkMore() error {
	if len(g.Groups) > maxGroups || len(g.Claims) > maxClaims {
		return fmt.Errorf("%d groups and %d claims, at most %d and %d: %w", len(g.Groups), len(g.Claims), maxGroups, maxClaims, ErrGrant)
	}
	for _, group := range g.Groups {
		if !isRole(group) {
			return fmt.Errorf("group name: %w", ErrGrant)
		}
	}
	for name, text := range g.Claims {
		if !isClaim(name) || text == "" || len(text) > maxClaimText || !isText(text) {
			return fmt.Errorf("claim's name or value: %w", ErrGrant)
		}
	}
	return nil
}

func isText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

func isRole(s string) bool {
	if s == "" || len(s) > maxRole {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := lower(s[i])
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// isClaim accepts [a-z][a-z0-9_]{0,31}.
func isClaim(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= maxClaimName
}

// isID accepts what [newID] makes.
func isID(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return len(s) == idLength && err == nil && len(raw) == idBytes
}
