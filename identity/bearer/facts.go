package bearer

import (
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	skew     = time.Minute    // between the issuer's clock and ours
	maxLife  = 24 * time.Hour // of a JWT access token from iat to exp
	maxText  = 255            // bytes of a client's name
	maxParty = 32             // members of aud
	maxScope = 512            // scopes
	maxID    = 512            // bytes of a jti
)

// facts are what an issuer says with a token, before it is known whether the
// request may use it. They do not change.
type facts struct {
	audience []string
	from     time.Time // not good before; zero: not said
	expires  time.Time
	key      confirmation
	caller   Caller // without scheme and token
}

// current holds the times against the clock (RFC 9068, section 4; RFC 7662,
// section 2.2), again at each use of what is remembered.
func (f facts) current(now time.Time) error {
	if !now.Before(f.expires.Add(skew)) {
		return no("token.exp")
	}
	if f.from.After(now.Add(skew)) {
		return no("token.nbf")
	}
	return nil
}

// facts reads the claims that a JWT and an answer to introspection share. jwt says
// that it is a JWT, which must have all that RFC 9068, section 2.2, requires.
func (i *Issuer) facts(c jws.Claims, jwt bool, now time.Time) (facts, error) {
	f := facts{caller: Caller{Source: i.name, Issuer: i.issuer}}
	for _, read := range []func() error{
		func() error { return f.readParties(c, i.issuer, jwt) },
		func() error { return f.readTimes(c, jwt, now) },
		func() (err error) { f.key, err = readConfirmation(c); return err },
		func() error { return f.readScopes(c) },
		func() error { return f.readAuthentication(c, now) },
		func() error { return i.mapping.apply(c, &f.caller) },
	} {
		if err := read(); err != nil {
			return facts{}, err
		}
	}
	who := f.caller
	err := identity.Identity{
		Source: who.Source, Issuer: who.Issuer, Subject: who.Subject, Username: who.Username, Name: who.Name,
		Email: who.Email, Roles: who.Roles, Claims: who.Claims, ACR: who.ACR, AMR: who.AMR, AuthTime: who.AuthTime,
	}.Check()
	if err != nil {
		return facts{}, no(identity.Reason(err))
	}
	return f, nil
}

// readParties: by whom, about whom, for whom, to whom.
func (f *facts) readParties(c jws.Claims, issuer string, jwt bool) error {
	name, present, err := c.String("iss")
	if err != nil || (present || jwt) && name != issuer {
		return no("token.iss")
	}
	client, present, err := c.String("client_id")
	if err != nil || len(client) > maxText || (present || jwt) && !visible(client) {
		return no("token.client_id")
	}
	subject, present, err := c.String("sub")
	if !present && !jwt && err == nil {
		// A client's own token has nobody else behind it; in a JWT the issuer
		// writes the client's name here itself (RFC 9068, section 2.2).
		subject = client
	}
	if err != nil || subject == "" {
		return no("token.sub")
	}
	id, present, err := c.String("jti")
	if err != nil || len(id) > maxID || (present || jwt) && id == "" {
		return no("token.jti")
	}
	f.audience, _, err = c.Strings("aud")
	if err != nil || len(f.audience) == 0 || len(f.audience) > maxParty {
		return no("token.aud")
	}
	f.caller.ClientID, f.caller.Subject = client, subject
	return nil
}

// readTimes bounds the token's life on both sides of now. An opaque token may live
// longer: its issuer is asked about it all the time.
func (f *facts) readTimes(c jws.Claims, jwt bool, now time.Time) error {
	issued, present, err := c.Time("iat")
	if err != nil || jwt && !present || issued.After(now.Add(skew)) {
		return no("token.iat")
	}
	if f.expires, present, err = c.Time("exp"); err != nil || !present {
		return no("token.exp")
	}
	if life := f.expires.Sub(issued); jwt && (life <= 0 || life > maxLife) {
		return no("token.exp")
	}
	if f.from, _, err = c.Time("nbf"); err != nil {
		return no("token.nbf")
	}
	// From here on nobody honours it any more.
	f.caller.Expires = f.expires.Add(skew)
	return f.current(now)
}

// readScopes reads the space-separated list (RFC 9068, section 2.2.3; RFC 7662,
// section 2.2). Several servers send an array of the same words: it is read as
// well, for one member of it can hold no second scope. What is not a scope-token
// (RFC 6749, section 3.3) is left out.
func (f *facts) readScopes(c jws.Claims) error {
	words, present, err := c.Strings("scope")
	if err != nil {
		return no("token.scope")
	}
	if present && c["scope"][0] == '"' {
		words = strings.Split(words[0], " ")
	}
	if len(words) > maxScope {
		return no("token.scope")
	}
	for _, word := range words {
		if isScope(word) && !slices.Contains(f.caller.Scopes, word) {
			f.caller.Scopes = append(f.caller.Scopes, word)
		}
	}
	// SMART App Launch 2.2 puts the patient of the launch beside the token;
	// issuers write it into the token under the same name.
	patient, present, err := optional(c, "patient")
	if err != nil || present && !isResourceID(patient) {
		return no("token.patient")
	}
	f.caller.Patient = patient
	return nil
}

func isScope(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}

// isResourceID is FHIR's id, without the two that are steps in a path.
func isResourceID(s string) bool {
	for i := range len(s) {
		if !letterOrDigit(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 64 && s != "." && s != ".."
}

// readAuthentication: how and when the person proved themselves (RFC 9068, section
// 2.2.1; RFC 9470, section 6).
func (f *facts) readAuthentication(c jws.Claims, now time.Time) error {
	at, _, err := c.Time("auth_time")
	if err != nil || at.After(now.Add(skew)) {
		return no("token.auth_time")
	}
	f.caller.AuthTime = at
	if f.caller.ACR, _, err = optional(c, "acr"); err != nil {
		return no("token.acr")
	}
	if raw := c["amr"]; len(raw) > 0 && raw[0] != '[' {
		return no("token.amr")
	}
	if f.caller.AMR, _, err = c.Strings("amr"); err != nil {
		return no("token.amr")
	}
	return nil
}
