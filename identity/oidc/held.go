package oidc

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	maxRefresh = 4 << 10  // bytes of a refresh token that is kept
	maxHeld    = 24 << 10 // bytes of what is kept
)

// held is what a session keeps of a sign-in, sealed in the store: the last ID
// token, which the provider wants to see again at a sign-out, the refresh token,
// and who it was, so that an answer about somebody else is seen. Access tokens
// are kept nowhere.
type held struct {
	Source  string `json:"src"`
	Issuer  string `json:"iss"`
	Client  string `json:"cid"`
	ID      string `json:"id_token"`
	Refresh string `json:"refresh_token,omitempty"`
	Nonce   string `json:"nonce"`           // of the attempt
	Stale   int64  `json:"stale,omitempty"` // Unix seconds: since when the claims could not be read again
	Person  person `json:"person"`
}

// person is an identity as it was found last; the fields after Claims are those of
// the sign-in.
type person struct {
	Subject  string            `json:"sub"`
	Username string            `json:"username"`
	Name     string            `json:"name,omitempty"`
	Email    string            `json:"email,omitempty"`
	Org      string            `json:"org,omitempty"`
	Roles    []string          `json:"roles,omitempty"`
	Groups   []string          `json:"groups,omitempty"`
	Claims   map[string]string `json:"claims,omitempty"`
	ACR      string            `json:"acr,omitempty"`
	AMR      []string          `json:"amr,omitempty"`
	AuthTime int64             `json:"auth_time,omitempty"`
	Session  string            `json:"sid,omitempty"`
}

// hold gives the bytes to keep of a sign-in and whether the provider can be asked
// again with them.
func (s *Source) hold(t tokens, who identity.Identity, nonce string) ([]byte, bool) {
	h := held{Source: s.name, Issuer: s.issuer, Client: s.clientID, Nonce: nonce, Person: person{
		Subject: who.Subject, ACR: who.ACR, AMR: who.AMR, Session: who.Session,
	}}
	if !who.AuthTime.IsZero() {
		h.Person.AuthTime = who.AuthTime.Unix()
	}
	h.follow(who)
	return s.pack(h, t)
}

// follow takes over what may change while a session lasts.
func (h *held) follow(who identity.Identity) {
	p := &h.Person
	p.Username, p.Name, p.Email, p.Org, p.Roles, p.Groups, p.Claims = who.Username, who.Name, who.Email, who.Org, who.Roles, who.Groups, who.Claims
}

// pack puts new tokens in the place of the old ones; those that did not come stay.
// A refresh token that is too long is not kept: the session lives as one without.
func (s *Source) pack(h held, t tokens) ([]byte, bool) {
	if t.id != "" {
		h.ID = t.id
	}
	if t.refresh != "" {
		h.Refresh = t.refresh
	}
	if len(h.Refresh) > maxRefresh {
		s.log.Warn("the provider's refresh token is too long to be kept: sessions are not checked again", "bytes", len(h.Refresh), "most", maxRefresh)
		h.Refresh = ""
	}
	if s.config.NoRefresh {
		h.Refresh = ""
	}
	// Without the escapes for HTML, which make six bytes of a letter that tokens may
	// have: one that was replaced and could not be kept would be used again.
	var keep bytes.Buffer
	enc := json.NewEncoder(&keep)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil || keep.Len() > maxHeld { // never: all of it is bounded
		return nil, false
	}
	return keep.Bytes(), h.Refresh != ""
}

// unpack reads what was kept. What another source, issuer or client of ours kept
// is not read: a token goes to the issuer that it came from or nowhere.
func (s *Source) unpack(keep []byte) (held, error) {
	var h held
	if len(keep) > maxHeld || json.Unmarshal(keep, &h) != nil || h.Person.Subject == "" {
		return held{}, refused("refresh.keep")
	}
	if h.Source != s.name || h.Issuer != s.issuer || h.Client != s.clientID {
		return held{}, refused("refresh.other_client")
	}
	return h, nil
}

// asFound is the person as found last, with the level of the sign-in.
func (s *Source) asFound(h held) (identity.Identity, error) {
	p := h.Person
	i := identity.Identity{
		Source: s.name, Issuer: s.issuer, Subject: p.Subject, Username: p.Username, Name: p.Name, Email: p.Email, Org: p.Org,
		ACR: p.ACR, AMR: p.AMR, Session: p.Session,
	}
	for _, role := range p.Roles {
		if s.claims.mayGive == nil || slices.Contains(s.claims.mayGive, role) {
			i.Roles = append(i.Roles, role)
		}
	}
	i.Groups, i.Claims = s.claims.still(p)
	if p.AuthTime != 0 {
		i.AuthTime = time.Unix(p.AuthTime, 0)
	}
	if err := i.Check(); err != nil {
		return identity.Identity{}, err
	}
	return i, nil
}

// remembered are the claims that the person was called by last and that no source
// has now, under the names that the mapping reads. Large providers leave them out
// of later ID tokens. Roles, groups, the organisation and the claims of rules are not
// among them: what is not given again is gone. An address that comes anew has to be checked anew.
func (s *Source) remembered(h held, sources []claimSet) claimSet {
	m := s.claims
	absent := func(name string) bool {
		for _, source := range sources {
			if !isNull(find(source.Claims, name)) {
				return false
			}
		}
		return name != ""
	}
	c := jws.Claims{}
	put := func(name, text string) {
		if raw, err := json.Marshal(text); text != "" && err == nil && absent(name) {
			c[name] = raw
		}
	}
	put(m.nameClaim, h.Person.Name)
	put(m.emailClaim, h.Person.Email)
	if username, ours := strings.CutPrefix(h.Person.Username, m.prefix); ours {
		put(m.usernameClaim, username)
	}
	if absent("email") && absent(m.emailClaim) {
		c["email_verified"] = json.RawMessage("true") // or it would not have been kept
	}
	return claimSet{Claims: c, subject: h.Person.Subject, ours: true}
}
