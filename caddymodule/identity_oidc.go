package caddymodule

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// OIDC is one OpenID Provider as a way to sign in.
type OIDC struct {
	// Name of this way to sign in: part of its addresses (`/.anteroom/callback/NAME`), recorded in
	// sessions and audit events. Letters, digits, `.`, `_`, `-`.
	Name string `json:"name"`
	// What the sign-in page calls it. Default: the name.
	Title string `json:"title,omitempty"`
	// The issuer exactly as the provider states it; https, or http on 127.0.0.1, ::1 and localhost.
	Issuer string `json:"issuer"`
	// Our client identifier at the provider.
	ClientID string `json:"client_id"`
	// Our client secret, as a placeholder: {file./run/secrets/oidc} or {env.OIDC_SECRET}.
	ClientSecret string `json:"client_secret"`
	// Scopes to ask for. Default: openid profile email.
	Scopes []string `json:"scopes,omitempty"`
	// Claim that holds the provider's groups or roles; a dotted path reaches into objects.
	RolesClaim string `json:"roles_claim,omitempty"`
	// For each of our roles the claim values that give it. No other value becomes a role.
	Roles map[string][]string `json:"roles,omitempty"`
	// Claim that becomes the username. Default: preferred_username.
	UsernameClaim string `json:"username_claim,omitempty"`
	// Put before every username of this provider; needed when there are several.
	UsernamePrefix string `json:"username_prefix,omitempty"`
	// Where the block stands, for messages.
	At string `json:"at,omitempty"`

	source identity.Source
}

// CaddyModule returns the module's information.
func (*OIDC) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom.identity.oidc", New: func() caddy.Module { return new(OIDC) }}
}

var (
	sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	roleName   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// UnmarshalCaddyfile reads
//
//	identity oidc NAME {
//		title           "Hospital staff"
//		issuer          https://login.hospital.example
//		client_id       anteroom
//		client_secret   {file./run/secrets/oidc}
//		scopes          openid profile email
//		roles_claim     groups
//		role ROLE from  VALUE…
//		username_claim  preferred_username
//		username_prefix staff:
//	}
func (o *OIDC) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "oidc"
	o.At = at(d)
	if !d.AllArgs(&o.Name) || !sourceName.MatchString(o.Name) {
		return d.Errf("identity oidc needs a name of letters, digits, `.`, `_`, `-`, for example `identity oidc hospital { … }`")
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] && word != "role" {
			return d.Errf("%q stands twice in identity oidc %s", word, o.Name)
		}
		seen[word] = true
		if err := o.line(d, word); err != nil {
			return err
		}
	}
	for _, need := range []string{"issuer", "client_id", "client_secret"} {
		if !seen[need] {
			return d.Errf("identity oidc %s: the line `%s …` is missing", o.Name, need)
		}
	}
	if len(o.Roles) > 0 && o.RolesClaim == "" {
		return d.Errf("identity oidc %s: `role … from` needs `roles_claim CLAIM`, the claim that holds the values", o.Name)
	}
	return nil
}

func (o *OIDC) line(d *caddyfile.Dispenser, word string) error {
	single := map[string]*string{
		"title": &o.Title, "issuer": &o.Issuer, "client_id": &o.ClientID, "client_secret": &o.ClientSecret,
		"roles_claim": &o.RolesClaim, "username_claim": &o.UsernameClaim, "username_prefix": &o.UsernamePrefix,
	}
	switch target := single[word]; {
	case target != nil:
		return oneArg(d, target)
	case word == "scopes":
		if o.Scopes = d.RemainingArgs(); len(o.Scopes) == 0 {
			return d.Errf("scopes needs at least one value, for example `scopes openid profile email`")
		}
		return nil
	case word == "role":
		args := d.RemainingArgs()
		if len(args) < 3 || args[1] != "from" {
			return d.Errf("write `role ROLE from VALUE…`, for example `role doctor from grp-physicians`")
		}
		if !roleName.MatchString(args[0]) {
			return d.Errf("role %q: a role's name has 1 to 64 letters, digits, `.`, `_`, `-`", args[0])
		}
		if o.Roles == nil {
			o.Roles = map[string][]string{}
		}
		o.Roles[args[0]] = append(o.Roles[args[0]], args[2:]...)
		return nil
	}
	return d.Errf("unrecognized line %q in identity oidc; want one of title, issuer, client_id, client_secret, scopes, roles_claim, role, username_claim, username_prefix", word)
}

// Provision resolves the secret and builds the relying party. It does not talk to the provider.
func (o *OIDC) Provision(ctx caddy.Context) error {
	where := "identity oidc " + o.Name
	if o.At != "" {
		where = o.At + ": " + where
	}
	repl := caddy.NewReplacer()
	cfg := oidc.Config{
		Name: o.Name, Title: o.Title, Scopes: o.Scopes, RolesClaim: o.RolesClaim, Roles: map[string][]string{},
		UsernameClaim: o.UsernameClaim, UsernamePrefix: o.UsernamePrefix, Logger: ctx.Slogger(),
	}
	for _, f := range []struct {
		name, value string
		target      *string
	}{{"issuer", o.Issuer, &cfg.Issuer}, {"client_id", o.ClientID, &cfg.ClientID}, {"client_secret", o.ClientSecret, &cfg.ClientSecret}} {
		v, err := repl.ReplaceOrErr(f.value, true, true)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", where, f.name, err)
		}
		*f.target = strings.TrimSpace(v)
	}
	if o.ClientSecret == cfg.ClientSecret && o.ClientSecret != "" {
		ctx.Slogger().Warn("the client secret stands in the config itself, which is stored and shown by the admin API; write {file./path} or {env.NAME} instead", "identity", o.Name)
	}
	for role, values := range o.Roles {
		for _, v := range values {
			cfg.Roles[v] = append(cfg.Roles[v], role)
		}
	}
	source, err := oidc.New(cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	o.source = source
	return nil
}

// Source is the relying party that Provision built.
func (o *OIDC) Source() identity.Source { return o.source }

// Prefixed reports the prefix of this provider's usernames.
func (o *OIDC) Prefixed() string { return o.UsernamePrefix }

// RoleNames are the roles that this provider can give.
func (o *OIDC) RoleNames() []string { return slices.Sorted(maps.Keys(o.Roles)) }
