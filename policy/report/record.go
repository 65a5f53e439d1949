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
	known := factSource | factWho
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

// maxReadings bounds in how many ways the places of a shape that are not recorded are filled.
const maxReadings = 128

// fill makes paths of a shape: each * stands for every name that a line has at that place and for one that none has, and never for
// the person's own, which the log tells. false when these are too many, or the path was longer than its shape.
func (s *Site) fill(m made, shape, username string) (paths []string, ok bool) {
	segments := strings.Split(strings.TrimPrefix(shape, "/"), "/")
	paths = []string{""}
	for i, segment := range segments {
		choices := []string{segment}
		switch segment {
		case "{user}":
			choices = []string{escape(username)}
		case "*":
			choices = s.names(m, segments[:i])
		case "**":
			return nil, false
		}
		var next []string
		for _, path := range paths {
			for _, choice := range choices {
				next = append(next, path+"/"+choice)
			}
		}
		if paths = next; len(paths) > maxReadings {
			return nil, false
		}
	}
	return paths, true
}

// names are what can matter at the place after some segments of a shape.
func (s *Site) names(m made, before []string) []string {
	list := []string{m.other}
	for _, l := range s.lines {
		for _, pattern := range l.patterns {
			segments := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
			if len(segments) <= len(before) || !fits(segments, before) {
				continue
			}
			if at := segments[len(before)]; weight(at) == 0 && at != "" {
				list = append(list, at)
			}
		}
	}
	slices.Sort(list[1:])
	return slices.Compact(list)
}

// fits reports whether the first segments of a pattern can match those of a shape.
func fits(pattern, shape []string) bool {
	for i, segment := range shape {
		switch {
		case pattern[i] == "**":
			return false // and nothing comes after it
		case weight(pattern[i]) == 0 && segment != "*" && segment != "{user}" && lower(pattern[i]) != lower(segment):
			return false
		}
	}
	return true
}

// people are who asks, and the same with the claims, and with a token's patient, by which some pattern would match the path.
func (s *Site) people(who *policy.Subject, path string) []*policy.Subject {
	list := []*policy.Subject{who}
	if who == nil {
		return list
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, l := range s.lines {
		for _, pattern := range l.patterns {
			it := *who
			it.Claims = map[string]string{}
			for i, p := range strings.Split(strings.TrimPrefix(pattern, "/"), "/") {
				name, isClaim := claimOf(p)
				switch {
				case i >= len(segments):
				case isClaim:
					it.Claims[name] = segments[i]
				case p == "{patient}" && it.Bearer:
					it.Patient = segments[i]
				}
			}
			if len(it.Claims) > 0 || it.Patient != "" {
				list = append(list, &it)
			}
		}
	}
	return list
}
