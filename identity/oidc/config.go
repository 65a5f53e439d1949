package oidc

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
)

// Config describes one provider. Printing it in any way leaves secrets and keys
// out.
type Config struct {
	Name        string              // the source's name: a segment of the callback's URL
	Title       string              // for people; Name when empty
	Issuer      string              // exactly as the provider spells it, a final slash included
	Client      Client              // who we are there
	Request     Request             // what sign-ins ask for
	Claims      Claims              // what of the answer counts
	Fetch       issuer.ClientConfig // which hosts, by which way; its Issuer is overwritten
	FAPI2       bool                // FAPI 2.0 Security Profile, or nothing
	Algs        []string            // of ID tokens; nil: those that the provider says, as far as they are accepted
	UserInfo    string              // "": asked when the ID token leaves something open; "signed": and the answer is a JWT; "off": never
	TypedLogout bool                // logout tokens must have the type logout+jwt
	NoRefresh   bool                // refresh tokens are not kept
	Patience    time.Duration       // how long sessions outlive a provider that does not answer; 0: an hour, below: not at all
	Domains     []string            // e-mail domains whose people belong here
	Now         func() time.Time
	Logger      *slog.Logger
}

// Client is our registration at the provider (RFC 7591, RFC 8705).
type Client struct {
	ID                string
	Secret            string        // for the methods that begin with client_secret
	Auth              string        // token_endpoint_auth_method; "": client_secret_basic
	Key               crypto.Signer // for private_key_jwt; nil: made once and kept in the store
	AssertionAudience string        // for the two methods that sign; "": the issuer
}

// Request is what sign-ins ask the provider for besides.
type Request struct {
	Scopes     []string          // nil: openid profile email; openid is always asked for
	ACR        []string          // acr_values, the best first
	MaxAge     time.Duration     // of the person's proof; 0: any
	Prompt     string            // of login, consent, select_account, create; never none
	Parameters map[string]string // added as they are
	FormPost   bool              // the answer comes as a form post (OAuth 2.0 Form Post Response Mode)
	PAR        bool              // the request is pushed (RFC 9126); done unasked when the provider demands it
}

// Claims says which claims become which part of an identity. A claim is a name
// or a dotted path into objects.
type Claims struct {
	Roles          string              // empty: "roles"
	RoleNames      map[string][]string // value of the roles claim -> role names; others are dropped
	MayGive        []string            // roles that this provider may give at all; nil: any
	Username       string              // empty: "preferred_username"
	UsernamePrefix string              // put in front of every username of this source
	Name           string              // empty: "name"
	Email          string              // empty: "email"
	Org            string              // empty: none

	Groups     string              // empty: the same as Roles
	GroupNames map[string][]string // value of that claim -> group names; others are dropped
	More       map[string]string   // name in rules -> claim; at most 8, texts, numbers, true and false
}

// String, GoString, MarshalJSON and LogValue name the provider and nothing that
// is secret.
func (c Config) String() string               { return "oidc.Config(" + c.Name + ", " + c.Issuer + ")" }
func (c Config) GoString() string             { return c.String() }
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }
func (c Config) LogValue() slog.Value         { return slog.StringValue(c.String()) }

// The same for the part that holds secret and key.
func (c Client) String() string               { return "oidc.Client(" + c.ID + ")" }
func (c Client) GoString() string             { return c.String() }
func (c Client) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }
func (c Client) LogValue() slog.Value         { return slog.StringValue(c.String()) }

// own is a copy that the caller cannot change any more, without secret and key:
// those are where only client authentication looks.
func (c Config) own() *Config {
	c.Client.Secret, c.Client.Key = "", nil
	c.Client.Auth = c.Client.method()
	if c.Client.AssertionAudience == "" {
		c.Client.AssertionAudience = c.Issuer
	}
	c.Request.ACR = slices.Clone(c.Request.ACR)
	c.Request.Parameters = maps.Clone(c.Request.Parameters)
	c.Request.PAR = c.Request.PAR || c.FAPI2
	c.Algs = slices.Clone(c.Algs)
	if c.FAPI2 && len(c.Algs) == 0 {
		c.Algs = slices.Clone(fapiAlgs)
	}
	c.Domains = slices.Clone(c.Domains)
	for i, domain := range c.Domains {
		c.Domains[i] = strings.ToLower(domain)
	}
	c.Fetch.Issuer = c.Issuer
	return &c
}

// check finds everything that is wrong, not only the first thing.
func (c Config) check() error {
	var all []error
	wrong := func(format string, args ...any) {
		all = append(all, fmt.Errorf("configuring oidc provider %q: "+format, append([]any{c.Name}, args...)...))
	}
	if !identity.ValidSource(c.Name) {
		wrong("the name is part of a URL: use 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	}
	fetch := c.Fetch
	fetch.Issuer = c.Issuer
	if _, err := issuer.NewClient(fetch); err != nil {
		wrong("%w", err)
	}
	c.Client.check(wrong, c.Fetch.Certificate != nil)
	c.checkFAPI2(wrong)
	c.checkAnswers(wrong)
	c.Request.check(wrong)
	c.Claims.check(wrong)
	return errors.Join(all...)
}

func (r Request) check(wrong func(string, ...any)) {
	for _, scope := range r.Scopes {
		if !visible(scope) || strings.ContainsAny(scope, ` "\`) {
			wrong("%q is not a scope: write one word a scope", scope)
		}
	}
	for _, acr := range r.ACR {
		if !visible(acr) || strings.Contains(acr, " ") {
			wrong("acr_values: %q is not one: write one word a context", acr)
		}
	}
	if r.MaxAge != 0 && r.MaxAge < time.Second {
		wrong("max_age: write a second or more")
	}
	words := strings.Fields(r.Prompt)
	for _, word := range words {
		// With none nobody could sign in who is not signed in already.
		if !slices.Contains([]string{"login", "consent", "select_account", "create"}, word) {
			wrong("prompt %q: write login, consent, select_account or create", word)
		}
	}
	for name, value := range r.Parameters {
		switch {
		case !parameterName.MatchString(name):
			wrong("parameter %q: a name is 1 to 64 of the characters A-Z a-z 0-9 . _ : -", name)
		case slices.Contains(reserved, strings.ToLower(name)):
			wrong("parameter %s is set here: leave it out", name)
		case len(value) > maxHint*4 || !utf8.ValidString(value) || strings.ContainsFunc(value, notText):
			wrong("parameter %s: write a text of at most 1020 bytes without control characters", name)
		}
	}
}

var parameterName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// reserved are the parameters of an authorization request that this package sets
// itself, or that would change what an answer means. Neither the configuration nor
// the address of the authorization endpoint may hold one: a provider could read
// either of two.
var reserved = []string{
	"response_type", "response_mode", "client_id", "redirect_uri", "scope", "state", "nonce", "prompt", "max_age", "acr_values",
	"login_hint", "id_token_hint", "code_challenge", "code_challenge_method", "dpop_jkt", "request", "request_uri",
	"client_secret", "client_assertion", "client_assertion_type", "registration", "iss", "code", "error",
}

// checkAnswers: which answers are taken.
func (c Config) checkAnswers(wrong func(string, ...any)) {
	for _, alg := range c.Algs {
		if !slices.Contains(knownAlgs, alg) {
			wrong("ID token algorithm %q: write one of %s", alg, strings.Join(knownAlgs, ", "))
		}
	}
	if !slices.Contains([]string{"", userinfoSigned, userinfoOff}, c.UserInfo) {
		wrong("userinfo %q: write signed or off, or leave it out", c.UserInfo)
	}
}

func (c Claims) check(wrong func(string, ...any)) {
	for line, path := range map[string]string{"roles_claim": c.Roles, "groups_claim": c.Groups} {
		if brokenPath(path) {
			wrong("%s %q: write a claim's name, or a path such as realm_access.roles", line, path)
		}
	}
	if len(c.More) > identity.MaxClaims {
		wrong("%d claims: a session has room for %d", len(c.More), identity.MaxClaims)
	}
	for name, path := range c.More {
		if !identity.ValidClaim(name) {
			wrong("claim %q: a name is a lower-case letter and at most 31 letters, digits or _", name)
		}
		if path == "" || brokenPath(path) {
			wrong("claim %s from %q: write a claim's name, or a path such as address.country", name, path)
		}
	}
	for value, groups := range c.GroupNames {
		for _, group := range groups {
			if !identity.ValidGroup(group) {
				wrong("group %q from %q: a group is 1 to 64 of the characters A-Z a-z 0-9 . _ -", group, value)
			}
		}
	}
	if p := c.UsernamePrefix; p != "" && (!visible(p) || p[0] == ' ') {
		wrong("username_prefix %q: write printable ASCII that does not begin with a blank", p)
	}
	for value, roles := range c.RoleNames {
		for _, role := range roles {
			if !identity.ValidRole(role) {
				wrong("role %q from %q: a role is 1 to 64 of the characters A-Z a-z 0-9 . _ -", role, value)
			}
		}
	}
}

// brokenPath says whether a path has an empty step.
func brokenPath(path string) bool {
	return strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") || strings.Contains(path, "..")
}

// scopes are the configured ones, openid first, none twice.
func (r Request) scopes() []string {
	all := r.Scopes
	if all == nil {
		all = []string{"profile", "email"}
	}
	scopes := []string{"openid"}
	for _, scope := range all {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}
