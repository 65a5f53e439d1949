// Package report shows people what the policies of sites decide, without any request.
//
// Make a Site of each policy with NewSite, and call NewMatrix for who may do what where, Compare for what changes between two
// configs, or NewReplay for how requests of the audit log would be decided now. Matrix has Table, CSV and HTML for a terminal, a
// spreadsheet and an auditor's file.
//
// Each answer is the policy's own: it is asked about concrete requests, made from the patterns of all lines. What such a request
// leaves open (the hour, the address, the level of the sign-in) is not guessed. The lines whose conditions depend on it are named,
// and the answer is certain only where it is the same whether they hold or not. A wrong "no" or "yes" would be worse than an
// "it depends".
//
// What it cannot see: what makes somebody a doctor (the provider's claims and the role lines for them), whatever an application
// does besides, and the reading of a `when` beyond the names that stand in it.
//
// Pure as policy is: no I/O but the writers and readers that are handed in, no clock. Names come from configs and logs; Table
// replaces what could act on a terminal, CSV what a spreadsheet would take for a formula, HTML is escaped.
package report

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// Site is one gated site and its policy.
type Site struct {
	Hosts  []string
	At     string // where its block stands
	Policy *policy.Policy

	reads   reading
	lines   []line
	byText  map[string]*line
	network map[string][]netip.Prefix
}

// NewSite takes a policy and what it was made of.
func NewSite(hosts []string, at string, p *policy.Policy, c policy.Config) *Site {
	s := &Site{Hosts: hosts, At: at, Policy: p, reads: reading{c.IgnoreCase, c.Exceptions}, byText: map[string]*line{}, network: c.Networks}
	for _, l := range p.Lines() {
		s.lines = append(s.lines, newLine(l))
	}
	for i := range s.lines {
		s.byText[s.lines[i].text] = &s.lines[i]
	}
	return s
}

// Name is the site's hosts.
func (s *Site) Name() string { return strings.Join(s.Hosts, ", ") }

// Serves reports whether the site answers to the host. Its port does not matter.
func (s *Site) Serves(host string) bool {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" && !strings.HasSuffix(host[:i], ":") {
		host = host[:i]
	}
	return slices.Contains(s.Hosts, strings.Trim(host, "[]"))
}

// host is what a made request says.
func (s *Site) host() string {
	if len(s.Hosts) == 0 {
		return ""
	}
	return s.Hosts[0]
}

// reading is how a site reads paths.
type reading struct {
	ignoreCase bool
	exceptions policy.Exceptions
}
