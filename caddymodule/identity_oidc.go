package caddymodule

import (
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/caddyserver/caddy/v2"
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
	ClientSecret string `json:"client_secret,omitempty"`
	// How we prove who we are at the token endpoint: client_secret_basic (default), client_secret_post, client_secret_jwt,
	// private_key_jwt, tls_client_auth, self_signed_tls_client_auth.
	ClientAuth string `json:"client_auth,omitempty"`
	// File of our private key (PEM) for private_key_jwt and for TLS. Default for private_key_jwt: a key that is made at the
	// first start, kept in the store and published at `/.anteroom/jwks/NAME.json`.
	ClientKey string `json:"client_key,omitempty"`
	// File of our client certificate (PEM) for TLS.
	ClientCertificate string `json:"client_certificate,omitempty"`
	// Whom our signed client assertions are for. Default: the issuer; some providers want the address of their token endpoint.
	AssertionAudience string `json:"assertion_audience,omitempty"`
	// A bundle of demands on the provider and on us: `fapi2` (FAPI 2.0 Security Profile). Default: none.
	Profile string `json:"profile,omitempty"`

	// Scopes to ask for. Default: openid profile email.
	Scopes []string `json:"scopes,omitempty"`
	// Authentication contexts to ask for, the preferred first.
	ACRValues []string `json:"acr_values,omitempty"`
	// How old the person's proof at the provider may be at sign-in. Default: any age.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
	// What the provider is to ask the person: login, consent, select_account, create.
	Prompt string `json:"prompt,omitempty"`
	// Further parameters of the authorization request.
	Parameters map[string]string `json:"parameters,omitempty"`
	// How the answer comes back: query (default) or form_post.
	ResponseMode string `json:"response_mode,omitempty"`
	// Push the authorization request to the provider first (RFC 9126). Default: only where the provider demands it.
	PAR bool `json:"par,omitempty"`

	// Hosts besides the issuer's own that the provider's metadata may name.
	Hosts []string `json:"hosts,omitempty"`
	// File of the certificates (PEM) that the provider's certificate is checked against. Default: the system's.
	CAFile string `json:"ca_file,omitempty"`
	// Proxy to reach the provider through. Default: what the environment says.
	Proxy string `json:"proxy,omitempty"`

	// Whether the userinfo endpoint is asked: when the ID token lacks something (default), `signed` for answers that are
	// JWTs, or `off`.
	UserInfo string `json:"userinfo,omitempty"`
	// Algorithms that ID tokens may be signed with. Default: those that the metadata names and we know.
	Algs []string `json:"id_token_algs,omitempty"`
	// Claim that holds the provider's groups or roles; a dotted path reaches into objects.
	RolesClaim string `json:"roles_claim,omitempty"`
	// For each of our roles the claim values that give it. No other value becomes a role.
	Roles map[string][]string `json:"roles,omitempty"`
	// The roles that this provider is trusted to give at all. Default: those of Roles.
	MayGive []string `json:"may_give,omitempty"`
	// Claim that holds groups, and for each of our groups the values that give it. Default: the claim of RolesClaim. No
	// other value becomes a group.
	GroupsClaim string              `json:"groups_claim,omitempty"`
	Groups      map[string][]string `json:"groups,omitempty"`
	// Claims that rules may ask for: the name in rules, and the provider's claim; a dotted path reaches into objects. At
	// most 8.
	Claims map[string]string `json:"claims,omitempty"`
	// Claim that becomes the username. Default: preferred_username.
	UsernameClaim string `json:"username_claim,omitempty"`
	// Put before every username of this provider; needed when there are several.
	UsernamePrefix string `json:"username_prefix,omitempty"`
	// Claims of the display name, the e-mail address and the organisation. Default: name, email, none.
	NameClaim  string `json:"name_claim,omitempty"`
	EmailClaim string `json:"email_claim,omitempty"`
	OrgClaim   string `json:"org_claim,omitempty"`
	// E-mail domains whose people belong here; the sign-in page asks for the address then.
	EmailDomains []string `json:"email_domains,omitempty"`

	// `off`: the provider is not asked again while a session lasts, even with a refresh token.
	Refresh string `json:"refresh,omitempty"`
	// How long running sessions outlive a provider that does not answer when it is asked again. Default: 1h; negative: not at all.
	OnProviderLoss caddy.Duration `json:"on_provider_loss,omitempty"`
	// `typed`: logout tokens must say that they are some (typ logout+jwt).
	LogoutToken string `json:"logout_token,omitempty"`

	// Where the block stands, for messages.
	At string `json:"at,omitempty"`

	source identity.Source
	broken error // why this provider cannot be used as the machine is now
}

// CaddyModule returns the module's information.
func (*OIDC) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom.identity.oidc", New: func() caddy.Module { return new(OIDC) }}
}

var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// needsSecret reports whether the client is authenticated by the client secret.
func (o *OIDC) needsSecret() bool {
	return o.ClientAuth == "" || strings.HasPrefix(o.ClientAuth, "client_secret_")
}

// Provision resolves secrets and files and builds the relying party. It does not talk to the provider. What is wrong with the
// config itself is an error. A file that is missing on this machine is not, as long as another way to sign in works: one
// provider's lost secret must not keep a whole hospital out.
func (o *OIDC) Provision(ctx caddy.Context) error {
	where := located(o.At, errors.New("identity oidc "+o.Name)).Error()
	if err := o.checkFixed(); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	cfg, missing := o.config(ctx)
	if missing == nil {
		source, err := oidc.New(cfg)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		o.source = source
		return nil
	}
	o.broken = fmt.Errorf("%s: %w", where, missing)
	o.source = absent{
		name: o.Name, title: cmp.Or(o.Title, o.Name), prefix: o.UsernamePrefix, domains: o.EmailDomains, cause: o.broken,
		patience: max(0, cmp.Or(time.Duration(o.OnProviderLoss), time.Hour)),
	}
	ctx.Slogger().Error("this provider cannot be used until the machine has what it needs; the other ways to sign in work", "identity", o.Name, "error", missing)
	return nil
}

// config translates the block. Its error is about what this machine lacks.
func (o *OIDC) config(ctx caddy.Context) (oidc.Config, error) {
	cfg := oidc.Config{
		Name: o.Name, Title: o.Title,
		Client: oidc.Client{Auth: o.ClientAuth, AssertionAudience: o.AssertionAudience},
		Request: oidc.Request{
			Scopes: o.Scopes, ACR: o.ACRValues, MaxAge: time.Duration(o.MaxAge), Prompt: o.Prompt, Parameters: o.Parameters,
			FormPost: o.ResponseMode == "form_post", PAR: o.PAR,
		},
		Claims: oidc.Claims{
			Roles: o.RolesClaim, RoleNames: byValue(o.Roles), MayGive: o.MayGive, Username: o.UsernameClaim, UsernamePrefix: o.UsernamePrefix,
			Name: o.NameClaim, Email: o.EmailClaim, Org: o.OrgClaim, Groups: o.GroupsClaim, GroupNames: byValue(o.Groups), More: o.Claims,
		},
		FAPI2: o.Profile == "fapi2", Algs: o.Algs, UserInfo: o.UserInfo, TypedLogout: o.LogoutToken == "typed", NoRefresh: o.Refresh == "off",
		Patience: time.Duration(o.OnProviderLoss), Domains: o.EmailDomains, Logger: ctx.Slogger(),
	}
	problems := []error{
		resolve("issuer", o.Issuer, &cfg.Issuer), resolve("client_id", o.ClientID, &cfg.Client.ID), resolve("client_secret", o.ClientSecret, &cfg.Client.Secret),
	}
	if o.ClientSecret == cfg.Client.Secret && o.ClientSecret != "" {
		ctx.Slogger().Warn("the client secret stands in the config itself, which is stored and shown by the admin API; write {file./path} or {env.NAME} instead", "identity", o.Name)
	}
	var err error
	cfg.Fetch, err = fetching(o.Hosts, o.CAFile, o.Proxy)
	problems = append(problems, err)
	switch {
	case o.ClientCertificate != "":
		cert, err := tls.LoadX509KeyPair(o.ClientCertificate, o.ClientKey)
		if err != nil {
			problems = append(problems, fmt.Errorf("client_auth: reading %s and %s: %w", o.ClientCertificate, o.ClientKey, err))
		}
		cfg.Fetch.Certificate = &cert
	case o.ClientKey != "":
		cfg.Client.Key, err = readSigner(o.ClientKey)
		problems = append(problems, err)
	}
	return cfg, errors.Join(problems...)
}

// resolve replaces the placeholders of a value; "" stays.
func resolve(name, value string, target *string) error {
	if value == "" {
		return nil
	}
	v, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*target = strings.TrimSpace(v)
	return nil
}

// fetching says what may be fetched from a provider and how.
func fetching(hosts []string, caFile, proxy string) (issuer.ClientConfig, error) {
	c := issuer.ClientConfig{Hosts: hosts}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return c, fmt.Errorf("ca_file: %w", err)
		}
		c.Roots = x509.NewCertPool()
		if !c.Roots.AppendCertsFromPEM(text) {
			return c, fmt.Errorf("ca_file %s: no certificate in it; it has to be a file of PEM blocks", caFile)
		}
	}
	if proxy != "" {
		if err := resolve("proxy", proxy, &proxy); err != nil { // it may hold a password
			return c, err
		}
		u, err := url.Parse(proxy)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h" {
			return c, errors.New("proxy: write an address such as http://proxy.hospital.example:3128, as a placeholder when it holds a password")
		}
		c.Proxy = u
	}
	return c, nil
}

// readSigner reads a private key (PKCS #8, PKCS #1 or SEC 1) from a PEM file.
func readSigner(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("client_auth: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue
		}
		if signer, ok := key.(crypto.Signer); ok && err == nil {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("client_auth: %s holds no private key in PEM that could be read; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`", path)
}

// Source is the relying party that Provision built.
func (o *OIDC) Source() identity.Source { return o.source }

// Prefixed reports the prefix of this provider's usernames.
func (o *OIDC) Prefixed() string { return o.UsernamePrefix }

// RoleNames are the roles that this provider can give.
func (o *OIDC) RoleNames() []string {
	roles := slices.Sorted(maps.Keys(o.Roles))
	if o.MayGive != nil {
		roles = slices.DeleteFunc(roles, func(r string) bool { return !slices.Contains(o.MayGive, r) })
	}
	return roles
}

// GroupNames are the groups that this provider can give.
func (o *OIDC) GroupNames() []string { return slices.Sorted(maps.Keys(o.Groups)) }

// ClaimNames are the claims that rules may ask for of this provider's people.
func (o *OIDC) ClaimNames() []string { return slices.Sorted(maps.Keys(o.Claims)) }

// byValue turns the lines of the config, our name → values of a claim, the way in which they are looked up.
func byValue(lines map[string][]string) map[string][]string {
	names := map[string][]string{}
	for name, values := range lines {
		for _, v := range values {
			names[v] = append(names[v], name)
		}
	}
	return names
}

// Broken is why this provider cannot be used on this machine, nil when it can.
func (o *OIDC) Broken() error { return o.broken }

// FormPost reports whether the provider's answers come as posts of its page.
func (o *OIDC) FormPost() bool { return o.ResponseMode == "form_post" }
