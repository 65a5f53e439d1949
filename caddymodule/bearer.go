package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/bearer"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// BearerIssuer is an authorization server whose access tokens sites may accept: a patient's app, or another hospital's system,
// comes with one instead of a session.
type BearerIssuer struct {
	// Name of the issuer, for the sites' `bearer from` and the audit log; unique over the ways to sign in, too.
	Name string `json:"name"`
	// The issuer exactly as the authorization server states it.
	Issuer string `json:"issuer"`
	// Address of its introspection endpoint (RFC 7662), which then judges all of the issuer's tokens. Default: they are JWTs.
	Introspect string `json:"introspect,omitempty"`
	// Our client at the introspection endpoint. The secret is a placeholder: {file./path} or {env.NAME}.
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	// Hosts besides the issuer's own that its metadata may name.
	Hosts []string `json:"hosts,omitempty"`
	// File of the certificates (PEM) that its certificate is checked against. Default: the system's.
	CAFile string `json:"ca_file,omitempty"`
	// Proxy to reach it through. Default: what the environment says.
	Proxy string `json:"proxy,omitempty"`
	// Claim that holds roles, and the values that give each of our roles. No other value becomes a role.
	RolesClaim string              `json:"roles_claim,omitempty"`
	Roles      map[string][]string `json:"roles,omitempty"`
	// Claims that rules may ask for: the name in rules, and the issuer's claim; a dotted path reaches into objects. At
	// most 8.
	Claims map[string]string `json:"claims,omitempty"`
	// Claim that becomes the username, and what is put before it.
	UsernameClaim  string `json:"username_claim,omitempty"`
	UsernamePrefix string `json:"username_prefix,omitempty"`
	// Where the block stands, for messages.
	At string `json:"at,omitempty"`

	issuer *bearer.Issuer // nil when it is broken
	named  string         // Issuer with its placeholders replaced
	broken error          // why this issuer's tokens cannot be judged as the machine is now
}

// unmarshal reads
//
//	bearer NAME {
//		issuer          https://as.hospital.example
//		introspect      https://as.hospital.example/introspect
//		client_id       anteroom
//		client_secret   {file./run/secrets/introspection}
//		hosts           keys.hospital.example
//		ca_file         /etc/anteroom/hospital-ca.pem
//		proxy           http://proxy.hospital.example:3128
//		roles_claim     groups
//		role ROLE from  VALUE…
//		claim NAME [from CLAIM]
//		username_claim  preferred_username
//		username_prefix app:
//	}
func (b *BearerIssuer) unmarshal(d *caddyfile.Dispenser) error {
	b.At = at(d)
	if !d.AllArgs(&b.Name) || !sourceName.MatchString(b.Name) {
		return d.Errf("bearer needs a name of letters, digits, `.`, `_`, `-`, for example `bearer apps { … }`")
	}
	single := map[string]*string{
		"issuer": &b.Issuer, "introspect": &b.Introspect, "client_id": &b.ClientID, "client_secret": &b.ClientSecret, "ca_file": &b.CAFile,
		"proxy": &b.Proxy, "roles_claim": &b.RolesClaim, "username_claim": &b.UsernameClaim, "username_prefix": &b.UsernamePrefix,
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] && word != "role" && word != "claim" {
			return d.Errf("%q stands twice in bearer %s", word, b.Name)
		}
		seen[word] = true
		var err error
		switch target := single[word]; {
		case target != nil:
			err = oneArg(d, target)
		case word == "hosts":
			if b.Hosts = d.RemainingArgs(); len(b.Hosts) == 0 {
				err = d.Errf("hosts needs at least one host, for example `hosts keys.hospital.example`")
			}
		case word == "role":
			var o OIDC
			if err = o.roleLine(d, d.RemainingArgs()); err == nil {
				b.addRoles(o.Roles)
			}
		case word == "claim":
			err = claimLine(d, d.RemainingArgs(), &b.Claims)
		default:
			err = d.Errf("unrecognized line %q in bearer; want one of issuer, introspect, client_id, client_secret, hosts, ca_file, proxy, roles_claim, role, claim, username_claim, username_prefix", word)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !seen["issuer"]:
		return d.Errf("bearer %s: the line `issuer …` is missing", b.Name)
	case len(b.Roles) > 0 && b.RolesClaim == "":
		return d.Errf("bearer %s: `role … from` needs `roles_claim CLAIM`, the claim that holds the values", b.Name)
	case seen["introspect"] != seen["client_id"] || seen["introspect"] != seen["client_secret"]:
		return d.Errf("bearer %s: `introspect`, `client_id` and `client_secret` belong together: the introspection endpoint wants to know who asks", b.Name)
	}
	return nil
}

func (b *BearerIssuer) addRoles(more map[string][]string) {
	if b.Roles == nil {
		b.Roles = map[string][]string{}
	}
	for role, values := range more {
		b.Roles[role] = append(b.Roles[role], values...)
	}
}

// RoleNames and ClaimNames are the roles and claims that callers with this issuer's tokens may have. They have no groups.
func (b *BearerIssuer) RoleNames() []string  { return slices.Sorted(maps.Keys(b.Roles)) }
func (b *BearerIssuer) GroupNames() []string { return nil }
func (b *BearerIssuer) ClaimNames() []string { return slices.Sorted(maps.Keys(b.Claims)) }

// provision resolves the secret and builds the issuer. It does not talk to it. A file that is missing on this machine keeps
// nothing else from working: who comes with this issuer's tokens is refused until it is there.
func (b *BearerIssuer) provision(ctx caddy.Context) error {
	cfg := bearer.Config{
		Name: b.Name, Roles: b.RolesClaim, RoleNames: byValue(b.Roles), Claims: b.Claims, Username: b.UsernameClaim, UsernamePrefix: b.UsernamePrefix, Logger: ctx.Slogger(),
	}
	problems := []error{resolve("issuer", b.Issuer, &cfg.Issuer)}
	var err error
	cfg.Fetch, err = fetching(b.Hosts, b.CAFile, b.Proxy)
	problems = append(problems, err)
	if b.Introspect != "" {
		i := &bearer.Introspection{}
		problems = append(problems, resolve("introspect", b.Introspect, &i.URL), resolve("client_id", b.ClientID, &i.ClientID), resolve("client_secret", b.ClientSecret, &i.ClientSecret))
		cfg.Introspection = i
		if i.ClientSecret == b.ClientSecret && i.ClientSecret != "" {
			ctx.Slogger().Warn("the client secret stands in the config itself, which is stored and shown by the admin API; write {file./path} or {env.NAME} instead", "bearer", b.Name)
		}
	}
	if err := errors.Join(problems...); err != nil {
		b.broken = located(b.At, fmt.Errorf("bearer %s: %w", b.Name, err))
		ctx.Slogger().Error("this issuer's tokens are refused until the machine has what is needed", "bearer", b.Name, "error", err)
		return nil
	}
	b.named = cfg.Issuer
	if b.issuer, err = bearer.New(cfg); err != nil {
		return located(b.At, err)
	}
	return nil
}

// checkBearers refuses two issuers of one name, and usernames that two could give to different people. An issuer that people
// also sign in at gives the same people the same names, as long as it is the same claim.
func (a *App) checkBearers() error {
	var problems []error
	names := map[string]bool{}
	prefixes := map[string][]string{} // folded prefix → whose names they are
	for _, g := range a.sources {
		name := g.Source().Name()
		names[name] = true
		whose := name
		if o, ok := g.(*OIDC); ok {
			issuer := o.Issuer
			if v, ok := o.source.(identity.Vouched); ok { // one that lacks a file does not say
				issuer = v.Issuer()
			}
			whose = namespace(issuer, cmp.Or(o.UsernameClaim, "preferred_username"))
		}
		prefix := strings.ToLower(g.Prefixed())
		prefixes[prefix] = append(prefixes[prefix], whose)
	}
	for _, b := range a.Bearer {
		if names[b.Name] {
			problems = append(problems, located(b.At, fmt.Errorf("the name %q is taken by a way to sign in or another `bearer`; choose another", b.Name)))
		}
		names[b.Name] = true
		prefix, whose := strings.ToLower(b.UsernamePrefix), namespace(cmp.Or(b.named, b.Issuer), cmp.Or(b.UsernameClaim, "sub"))
		if slices.ContainsFunc(prefixes[prefix], func(other string) bool { return other != whose }) {
			problems = append(problems, located(b.At, fmt.Errorf("bearer %s could give somebody the username of a person who signs in elsewhere: add for example `username_prefix %s:` (where people sign in at the same issuer, the same `username_claim` will do)", b.Name, b.Name)))
		}
		prefixes[prefix] = append(prefixes[prefix], whose)
	}
	return errors.Join(problems...)
}

// namespace names the usernames that an issuer gives by one claim.
func namespace(issuer, claim string) string { return issuer + " " + claim }
