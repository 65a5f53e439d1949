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
	asks    *asks
	network map[string][]netip.Prefix
}

// NewSite takes a policy and what it was made of.
func NewSite(hosts []string, at string, p *policy.Policy, c policy.Config) *Site {
	s := &Site{Hosts: hosts, At: at, Policy: p, reads: reading{c.IgnoreCase, c.Exceptions}, network: c.Networks}
	for _, l := range p.Lines() {
		s.lines = append(s.lines, newLine(l))
	}
	return s.index()
}

// index finds the lines by their texts. A site of one host knows under which it is asked for.
func (s *Site) index() *Site {
	s.byText, s.asks = map[string]*line{}, &asks{of: map[string]facts{}}
	for i := range s.lines {
		if len(s.Hosts) == 1 {
			s.lines[i].needed &^= factHost
		}
		s.byText[s.lines[i].text] = &s.lines[i]
	}
	return s
}

// on is the site as it answers under one of its hosts. Most do so under all in the same way.
func (s *Site) on(host string) *Site {
	if !s.AsksHost() {
		return s
	}
	one := *s
	one.Hosts, one.lines = []string{host}, slices.Clone(s.lines)
	return one.index()
}

// AsksHost reports whether a line asks under which of several hosts.
func (s *Site) AsksHost() bool {
	return slices.ContainsFunc(s.lines, func(l line) bool { return l.needed&factHost != 0 })
}

// Name is the site's hosts.
func (s *Site) Name() string { return strings.Join(s.Hosts, ", ") }

// Serves reports whether the site answers to the host. Its port does not matter.
func (s *Site) Serves(host string) bool { return slices.Contains(s.Hosts, bareHost(host)) }

// bareHost is a host in lower case, without port.
func bareHost(host string) string {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" && !strings.HasSuffix(host[:i], ":") {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
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
