package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// What sites share: policies, networks and their names.

// Policy is a set of lines that sites take over with `use NAME`.
type Policy struct {
	// Name of it: letters, digits, `.`, `_`, `-`.
	Name string `json:"name"`
	// Its lines.
	Rules []Rule `json:"rules"`
	// Where it stands, for messages.
	At string `json:"at,omitempty"`
}

// unmarshal reads `policy NAME { … }`, with the lines of a site's policy.
func (p *Policy) unmarshal(d *caddyfile.Dispenser) error {
	p.At = at(d)
	if !d.AllArgs(&p.Name) || !policy.ValidRole(p.Name) {
		return d.Errf("policy needs a name of letters, digits, `.`, `_`, `-`, for example `policy wards { … }`")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if !isRule(word) || word == "use" {
			return d.Errf("unrecognized line %q in policy %s; want one of allow, deny, require, shadow, break_glass, budget", word, p.Name)
		}
		var err error
		if p.Rules, err = appendRule(p.Rules, d); err != nil {
			return err
		}
	}
	if len(p.Rules) == 0 {
		return d.Errf("policy %s is empty; write its lines into the block, for example `allow role doctor`", p.Name)
	}
	return nil
}

// expand puts the lines of the named policies into the place of `use NAME…`.
func (a *App) expand(rules []Rule) ([]Rule, error) {
	var out []Rule
	var problems []error
	for _, r := range rules {
		if len(r.Words) == 0 || r.Words[0] != "use" {
			out = append(out, r)
			continue
		}
		if len(r.Words) == 1 {
			problems = append(problems, fmt.Errorf("%s: `use` names no policy; write `use NAME`", r.At))
		}
		for _, name := range r.Words[1:] {
			p := a.policy(name)
			if p == nil {
				problems = append(problems, fmt.Errorf("%s: `use %s`: there is no such policy; write `policy %s { … }` into the global option `anteroom`%s", r.At, name, name, a.policyNames()))
				continue
			}
			out = append(out, p.Rules...)
		}
	}
	return out, errors.Join(problems...)
}

func (a *App) policy(name string) *Policy {
	for _, p := range a.Policies {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func (a *App) policyNames() string {
	var names []string
	for _, p := range a.Policies {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return ", or use one of " + strings.Join(names, ", ")
}

// networkName reports whether a network can have the name: one that reads like an address would stand for other addresses.
func networkName(name string) bool {
	return policy.ValidRole(name) && strings.Trim(name, "0123456789.") != ""
}

// complete refuses a null in the lists of a JSON config: every other place relies on there being none.
func (a *App) complete() error {
	if slices.Contains(a.Policies, nil) || slices.Contains(a.Bearer, nil) {
		return errors.New("the anteroom app has a null among its policies or bearer issuers; remove it")
	}
	return nil
}

// checkPolicies refuses two policies of one name.
func (a *App) checkPolicies() error {
	var problems []error
	for i, p := range a.Policies {
		switch {
		case !policy.ValidRole(p.Name):
			problems = append(problems, fmt.Errorf("%s: policy %q: a name has letters, digits, `.`, `_`, `-`", p.At, p.Name))
		case slices.ContainsFunc(a.Policies[:i], func(other *Policy) bool { return other.Name == p.Name }):
			problems = append(problems, fmt.Errorf("%s: the policy %s stands twice; put all lines into one block, or give it another name", p.At, p.Name))
		}
	}
	for name := range a.Networks {
		if !networkName(name) {
			problems = append(problems, fmt.Errorf("network %q: a name has letters, digits, `.`, `_`, `-`, and is no address", name))
		}
	}
	return errors.Join(problems...)
}

// unusedPolicies refuses a policy that no site uses: its denies, which somebody relies on, would hold nowhere.
func (a *App) unusedPolicies(places []place) error {
	used := map[string]bool{}
	for _, p := range places {
		for _, r := range p.site.Rules {
			if len(r.Words) > 0 && r.Words[0] == "use" {
				for _, name := range r.Words[1:] {
					used[name] = true
				}
			}
		}
	}
	var problems []error
	for _, p := range a.Policies {
		if !used[p.Name] {
			problems = append(problems, fmt.Errorf("%s: no site uses the policy %s, so that its lines hold nowhere; write `use %s` into a site, or remove it", p.At, p.Name, p.Name))
		}
	}
	return errors.Join(problems...)
}

// networkLine reads `network NAME CIDR…`.
func (a *App) networkLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 || !networkName(args[0]) {
		return d.Errf("network needs a name and its ranges, for example `network wards 10.1.0.0/16 10.2.0.0/16`")
	}
	if a.Networks[args[0]] != nil {
		return d.Errf("network %s stands twice; put all ranges into one line", args[0])
	}
	for _, text := range args[1:] {
		if _, err := parseNetwork(text); err != nil {
			return d.WrapErr(err)
		}
	}
	if a.Networks == nil {
		a.Networks = map[string][]string{}
	}
	a.Networks[args[0]] = args[1:]
	return nil
}

// known is what can stand in a session, as far as the ways to sign in and the token issuers say.
type known struct {
	roles, groups, sources, claims []string
	givers, issuers                map[string][]string // who gives each claim to people, and to tokens
}

// known asks the ways to sign in, which need not be provisioned.
func (a *App) known() (known, error) {
	var k known
	guests := a.sources
	for _, g := range guests {
		k.sources = append(k.sources, g.Source().Name())
	}
	for _, raw := range a.IdentityRaw {
		g, name, err := unprovisioned(raw)
		if err != nil {
			return known{}, err
		}
		guests, k.sources = append(slices.Clip(guests), g), append(k.sources, name)
	}
	k.givers, k.issuers = map[string][]string{}, map[string][]string{}
	gives := func(to map[string][]string, giver string, names []string) {
		k.claims = append(k.claims, names...)
		for _, name := range names {
			to[name] = append(to[name], giver)
		}
	}
	for i, g := range guests {
		k.roles = append(k.roles, g.RoleNames()...)
		k.groups = append(k.groups, g.GroupNames()...)
		gives(k.givers, k.sources[i], g.ClaimNames())
	}
	for _, b := range a.Bearer {
		k.roles = append(k.roles, slices.Collect(maps.Keys(b.Roles))...)
		gives(k.issuers, b.Name, b.ClaimNames())
		k.sources = append(k.sources, b.Name)
	}
	for _, list := range []*[]string{&k.roles, &k.groups, &k.sources, &k.claims} {
		slices.Sort(*list)
		*list = append([]string{}, slices.Compact(*list)...) // not nil: nothing is known is something else
	}
	return k, nil
}

// unprovisioned decodes a way to sign in without opening anything.
func unprovisioned(raw json.RawMessage) (g Guest, name string, err error) {
	var kind struct {
		Source string `json:"source"`
		Name   string `json:"name"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, "", fmt.Errorf("reading a way to sign in: %w", err)
	}
	info, err := caddy.GetModule("anteroom.identity." + kind.Source)
	if err != nil {
		return nil, "", fmt.Errorf("reading a way to sign in: %w", err)
	}
	g, ok := info.New().(Guest)
	if !ok {
		return nil, "", fmt.Errorf("reading a way to sign in: %s is none", kind.Source)
	}
	if err := json.Unmarshal(raw, g); err != nil {
		return nil, "", fmt.Errorf("reading a way to sign in: %w", err)
	}
	return g, kind.Name, nil
}

// sharedClaims warns of lines that let somebody in by a claim which several providers give: what one of them calls 7, nobody promised to
// be the other's 7. Usernames, which each of them can give to its own people, are told apart by `username_prefix`.
func (k known) sharedClaims(rules []Rule) (warnings []string) {
	for _, r := range rules {
		if len(r.Words) == 0 || r.Words[0] != "allow" && r.Words[0] != "break_glass" || slices.Contains(r.Words, "idp") {
			continue
		}
		text, from := strings.Join(r.Words, " "), k.givers
		if slices.Contains(r.Words, "scope") {
			from = k.issuers // other lines let no token in
		}
		for _, name := range slices.Sorted(maps.Keys(from)) {
			if givers := from[name]; len(givers) > 1 && claimIn(text, name) {
				warnings = append(warnings, fmt.Sprintf("%s: `%s`: %s give the claim %s, so that people of one can be taken for those of another; write a line for each with `idp NAME`, or give the claims names of their own", r.At, text, strings.Join(givers, " and "), name))
			}
		}
	}
	return warnings
}

// claimIn reports whether a line asks for a claim, in a path or a condition.
func claimIn(line, name string) bool {
	for rest := line; ; {
		_, after, found := strings.Cut(rest, "claim."+name)
		if !found {
			return false
		}
		if after == "" || strings.Trim(after[:1], "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return true
		}
		rest = after
	}
}
