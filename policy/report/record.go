package report

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
)

// record is what replay reads of a line of the audit log. Its other fields do not matter here.
type record struct {
	Kind, Ref, Time, Site, Method, Path, Route, Decision, Reason, Emergency, Rule string
	Name, Subject, Source, Client, ACR                                            string
	ClientID                                                                      string `json:"client_id"`
	Roles, AMR, Scopes                                                            []string
	Count                                                                         int
}

// cutMark ends what the audit log cut, and a list of which not everything was written.
const cutMark = "…"

// parseRecord reads one line; false: it is none of the audit log's.
func parseRecord(line []byte) (r record, ok bool) {
	if err := json.Unmarshal(line, &r); err != nil || r.Kind == "" {
		return record{}, false
	}
	return r, true
}

// byRules are the reasons that a policy decided for. What was refused before it was asked would be refused again.
var byRules = []string{
	policy.ReasonDenied, policy.ReasonNoRule, policy.ReasonNoSession, policy.ReasonStepUp, policy.ReasonScope, policy.ReasonCondition, policy.ReasonMethod,
}

// isDecision reports whether a policy made the record's decision, and what it was.
func (r *record) isDecision() (allowed, ok bool) {
	switch {
	case r.Kind != "request" || r.Count > 1:
		return false, false
	case r.Decision == "allowed":
		return true, true
	}
	return false, r.Decision == "denied" && slices.Contains(byRules, r.Reason)
}

// isCut reports whether a part of what decides is missing.
func (r *record) isCut() bool {
	cut := func(s string) bool { return strings.HasSuffix(s, cutMark) }
	return cut(r.Path) || cut(r.Name) || cut(r.Site) || cut(r.ACR) || slices.ContainsFunc(slices.Concat(r.Roles, r.AMR, r.Scopes), cut)
}

// shape is the path as the record has it; "" when it has none. A record without one was allowed by a line for a path without
// variables, or nobody knows.
func (r *record) shape() string {
	if r.Path != "" {
		return r.Path
	}
	if r.Decision == "allowed" && !strings.ContainsAny(r.Route, "*{") {
		return r.Route
	}
	return ""
}

// request is what the record says of the request, and which facts it knows. The path is left to the caller.
func (r *record) request() (policy.Request, facts) {
	out := policy.Request{Method: r.Method, Host: r.Site}
	known := factSource | factWho | factHost
	if !strings.Contains(r.shape(), "/*") {
		known |= factPath
	}
	if at, err := time.Parse(time.RFC3339Nano, r.Time); err == nil {
		out.Now, known = at, known|factTime
	}
	if addr, err := netip.ParseAddr(r.Client); err == nil {
		out.Addr, known = addr.Unmap(), known|factAddr
	}
	if r.ACR != "" || r.Path != "" { // what writes paths writes levels, too, where there are any
		known |= factACR | factAMR
	}
	if r.Name+r.Subject+r.Source+r.ClientID != "" {
		out.Who = &policy.Subject{
			Username: r.Name, Roles: r.Roles, Source: r.Source, ACR: r.ACR, AMR: r.AMR, Bearer: r.ClientID != "", Scopes: r.Scopes,
		}
	}
	return out, known
}
