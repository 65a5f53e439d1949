package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads
//
//	identity oidc NAME {
//		title           "Hospital staff"
//		issuer          https://login.hospital.example
//		client_id       anteroom
//		client_secret   {file./run/secrets/oidc}
//		client_auth     basic | post | secret_jwt | private_key_jwt [KEYFILE] | tls CERT KEY | self_signed_tls CERT KEY
//		assertion_audience https://login.hospital.example/token
//		profile         fapi2
//		par
//		response_mode   form_post
//		scopes          openid profile email
//		acr_values      urn:example:mfa
//		max_age         8h
//		prompt          select_account
//		parameter       NAME VALUE
//		hosts           keys.hospital.example
//		ca_file         /etc/anteroom/hospital-ca.pem
//		proxy           http://proxy.hospital.example:3128
//		userinfo        signed | off
//		id_token_algs   ES256
//		roles_claim     groups
//		role ROLE from  VALUE…
//		may_give        ROLE…
//		groups_claim    departments
//		group GROUP from VALUE…
//		claim NAME [from CLAIM]
//		username_claim  preferred_username
//		username_prefix staff:
//		name_claim      name
//		email_claim     email
//		org_claim       organisation
//		email_domains   hospital.example
//		refresh         off
//		on_provider_loss deny | running_sessions 1h
//		logout_token    typed
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
		if seen[word] && !slices.Contains([]string{"role", "group", "claim", "parameter"}, word) {
			return d.Errf("%q stands twice in identity oidc %s", word, o.Name)
		}
		seen[word] = true
		if err := o.line(d, word); err != nil {
			return err
		}
	}
	for _, need := range []string{"issuer", "client_id"} {
		if !seen[need] {
			return d.Errf("identity oidc %s: the line `%s …` is missing", o.Name, need)
		}
	}
	switch secret := o.needsSecret(); {
	case secret && !seen["client_secret"]:
		return d.Errf("identity oidc %s: the line `client_secret …` is missing (or a `client_auth` that needs none: private_key_jwt, tls)", o.Name)
	case !secret && seen["client_secret"]:
		return d.Errf("identity oidc %s: `client_auth %s` uses no client_secret; remove one of the two lines", o.Name, o.ClientAuth)
	}
	if len(o.Roles) > 0 && o.RolesClaim == "" {
		return d.Errf("identity oidc %s: `role … from` needs `roles_claim CLAIM`, the claim that holds the values", o.Name)
	}
	if len(o.Groups) > 0 && o.GroupsClaim == "" && o.RolesClaim == "" {
		return d.Errf("identity oidc %s: `group … from` needs `groups_claim CLAIM`, the claim that holds the values", o.Name)
	}
	for role := range o.Roles {
		if o.MayGive != nil && !slices.Contains(o.MayGive, role) {
			return d.Errf("identity oidc %s: a line gives the role %q, which `may_give` does not trust this provider with; mend one of the two", o.Name, role)
		}
	}
	for _, domain := range o.EmailDomains {
		if !domainName.MatchString(domain) {
			return d.Errf("email_domains %q: write what stands behind the @ of an address, for example hospital.example", domain)
		}
	}
	return nil
}

// domainName is a domain of e-mail addresses, in any case.
var domainName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$`)

// oidcWords are all lines of the block, for the message about another one.
const oidcWords = "title, issuer, client_id, client_secret, client_auth, assertion_audience, profile, par, response_mode, scopes, acr_values, max_age, prompt, parameter, hosts, ca_file, proxy, " +
	"userinfo, id_token_algs, roles_claim, role, may_give, groups_claim, group, claim, username_claim, username_prefix, name_claim, email_claim, org_claim, email_domains, refresh, on_provider_loss, logout_token"

// line reads one line of the block; the dispenser stands on its first word.
func (o *OIDC) line(d *caddyfile.Dispenser, word string) error {
	single := map[string]*string{
		"title": &o.Title, "issuer": &o.Issuer, "client_id": &o.ClientID, "client_secret": &o.ClientSecret,
		"roles_claim": &o.RolesClaim, "groups_claim": &o.GroupsClaim, "username_claim": &o.UsernameClaim, "username_prefix": &o.UsernamePrefix,
		"name_claim": &o.NameClaim, "email_claim": &o.EmailClaim, "org_claim": &o.OrgClaim,
		"prompt": &o.Prompt, "ca_file": &o.CAFile, "proxy": &o.Proxy, "assertion_audience": &o.AssertionAudience,
	}
	list := map[string]*[]string{
		"scopes": &o.Scopes, "acr_values": &o.ACRValues, "hosts": &o.Hosts, "id_token_algs": &o.Algs, "may_give": &o.MayGive, "email_domains": &o.EmailDomains,
	}
	if target := single[word]; target != nil {
		return oneArg(d, target)
	}
	if target := list[word]; target != nil {
		if *target = d.RemainingArgs(); len(*target) == 0 {
			return d.Errf("%s needs at least one value", word)
		}
		return nil
	}
	for _, f := range o.fixed() {
		if f.word != word {
			continue
		}
		if !d.AllArgs(f.target) || !slices.Contains(f.values, *f.target) {
			return d.Errf("%s", f.write())
		}
		return nil
	}
	switch args := d.RemainingArgs(); word {
	case "par":
		o.PAR = true
		return noMore(d, word, args)
	case "client_auth":
		return o.clientAuthLine(d, args)
	case "role":
		return o.roleLine(d, args)
	case "group":
		return o.groupLine(d, args)
	case "claim":
		return claimLine(d, args, &o.Claims)
	case "parameter":
		if len(args) != 2 {
			return d.Errf("write `parameter NAME VALUE`, for example `parameter hd hospital.example`")
		}
		if _, twice := o.Parameters[args[0]]; twice {
			return d.Errf("the parameter %q stands twice in identity oidc %s", args[0], o.Name)
		}
		if o.Parameters == nil {
			o.Parameters = map[string]string{}
		}
		o.Parameters[args[0]] = args[1]
		return nil
	case "max_age":
		return durationBetween(d, word, args, time.Second, 30*24*time.Hour, &o.MaxAge)
	case "on_provider_loss":
		return o.lossLine(d, args)
	}
	return d.Errf("unrecognized line %q in identity oidc; want one of %s", word, oidcWords)
}

// fixed is a line that has one of a few values.
type fixed struct {
	word   string
	target *string
	values []string
}

func (f fixed) write() string {
	return fmt.Sprintf("write `%s %s`", f.word, strings.Join(f.values, "` or `"+f.word+" "))
}

func (o *OIDC) fixed() []fixed {
	return []fixed{
		{"profile", &o.Profile, []string{"fapi2"}},
		{"response_mode", &o.ResponseMode, []string{"query", "form_post"}},
		{"userinfo", &o.UserInfo, []string{"signed", "off"}},
		{"refresh", &o.Refresh, []string{"off"}},
		{"logout_token", &o.LogoutToken, []string{"typed"}},
	}
}

// checkFixed looks at those lines in a config that was written as JSON: a slip of the pen in a demand must not switch it off.
func (o *OIDC) checkFixed() error {
	var problems []error
	for _, f := range o.fixed() {
		if *f.target != "" && !slices.Contains(f.values, *f.target) {
			problems = append(problems, fmt.Errorf("%s %q: %s, or leave it out", f.word, *f.target, f.write()))
		}
	}
	return errors.Join(problems...)
}

func (o *OIDC) clientAuthLine(d *caddyfile.Dispenser, args []string) error {
	methods := map[string]struct {
		method      string
		least, most int // words after the method
	}{
		"basic": {"client_secret_basic", 0, 0}, "post": {"client_secret_post", 0, 0}, "secret_jwt": {"client_secret_jwt", 0, 0},
		"private_key_jwt": {"private_key_jwt", 0, 1}, "tls": {"tls_client_auth", 2, 2}, "self_signed_tls": {"self_signed_tls_client_auth", 2, 2},
	}
	if len(args) > 0 {
		if m, ok := methods[args[0]]; ok && len(args)-1 >= m.least && len(args)-1 <= m.most {
			o.ClientAuth = m.method
			switch rest := args[1:]; len(rest) {
			case 1:
				o.ClientKey = rest[0]
			case 2:
				o.ClientCertificate, o.ClientKey = rest[0], rest[1]
			}
			return nil
		}
	}
	return d.Errf("write `client_auth basic`, `post`, `secret_jwt`, `private_key_jwt [KEYFILE]`, `tls CERT KEY` or `self_signed_tls CERT KEY`")
}

func (o *OIDC) roleLine(d *caddyfile.Dispenser, args []string) error {
	if len(args) < 3 || args[1] != "from" {
		return d.Errf("write `role ROLE from VALUE…`, for example `role doctor from grp-physicians`")
	}
	if !identity.ValidRole(args[0]) {
		return d.Errf("role %q: a role's name has 1 to 64 letters, digits, `.`, `_`, `-`", args[0])
	}
	if o.Roles == nil {
		o.Roles = map[string][]string{}
	}
	o.Roles[args[0]] = append(o.Roles[args[0]], args[2:]...)
	return nil
}

func (o *OIDC) groupLine(d *caddyfile.Dispenser, args []string) error {
	if len(args) < 3 || args[1] != "from" {
		return d.Errf("write `group GROUP from VALUE…`, for example `group ward-3 from grp-ward-3`")
	}
	if !identity.ValidGroup(args[0]) {
		return d.Errf("group %q: a group's name has 1 to 64 letters, digits, `.`, `_`, `-`", args[0])
	}
	if o.Groups == nil {
		o.Groups = map[string][]string{}
	}
	o.Groups[args[0]] = append(o.Groups[args[0]], args[2:]...)
	return nil
}

// claimLine reads `claim NAME [from CLAIM]`.
func claimLine(d *caddyfile.Dispenser, args []string, claims *map[string]string) error {
	if len(args) != 1 && (len(args) != 3 || args[1] != "from") {
		return d.Errf("write `claim NAME` or `claim NAME from CLAIM`, for example `claim patient_id from https://fhir.hospital.example/patient`")
	}
	name, from := args[0], args[len(args)-1]
	if !identity.ValidClaim(name) {
		return d.Errf("claim %q: the name that rules use is a lower-case letter and at most 31 letters, digits or `_`; write for example `claim patient_id from %s`", name, from)
	}
	if _, twice := (*claims)[name]; twice {
		return d.Errf("the claim %q stands twice", name)
	}
	if len(*claims) == identity.MaxClaims {
		return d.Errf("claim %s: a session has room for %d claims; take over only those that rules ask for", name, identity.MaxClaims)
	}
	if *claims == nil {
		*claims = map[string]string{}
	}
	(*claims)[name] = from
	return nil
}

func (o *OIDC) lossLine(d *caddyfile.Dispenser, args []string) error {
	switch {
	case slices.Equal(args, []string{"deny"}):
		o.OnProviderLoss = -1
		return nil
	case len(args) == 2 && args[0] == "running_sessions":
		return durationBetween(d, "on_provider_loss running_sessions", args[1:], time.Minute, 24*time.Hour, &o.OnProviderLoss)
	}
	return d.Errf("write `on_provider_loss deny` or `on_provider_loss running_sessions 1h`")
}

// durationBetween reads one duration of whole seconds.
func durationBetween(d *caddyfile.Dispenser, word string, args []string, least, most time.Duration, target *caddy.Duration) error {
	if len(args) == 1 {
		if v, err := caddy.ParseDuration(args[0]); err == nil && v >= least && v <= most {
			*target = caddy.Duration(v.Round(time.Second))
			return nil
		}
	}
	return d.Errf("%s: write one duration from %s to %s", word, seconds(int64(least/time.Second)), seconds(int64(most/time.Second)))
}

func noMore(d *caddyfile.Dispenser, word string, args []string) error {
	if len(args) > 0 {
		return d.Errf("%s takes no value, not %q", word, args[0])
	}
	return nil
}
