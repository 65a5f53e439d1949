package policy

import "github.com/anteroom-proxy/anteroom/policy/condition"

// entry is what a search returns: one line and the pattern of it.
type entry struct {
	*rule
	route     string
	variables []variable
	bound     bool   // the pattern has a {patient} that is the token's
	counter   string // of a budget: its ID
	folded    string // of a line that must not be dodged: the pattern as it is compared
}

func newEntry(r *rule, pattern string) *entry {
	e := &entry{rule: r, route: pattern, variables: variables(pattern), bound: r.who == whoScope && hasSegment(pattern, "{patient}")}
	if r.kind == kindBudget {
		e.counter = r.id()
	}
	if r.folds() {
		e.folded = foldPattern(pattern)
	}
	return e
}

// matches reports whether the path of a query matches the pattern of one line.
func (p *Policy) matches(q *query, e *entry) bool {
	pattern := e.route
	key, text := p.exact(q.path)
	switch {
	case e.folds():
		pattern, key, text = e.folded, q.path.folded, q.path.folded
	case p.loose:
		pattern = lower(pattern)
	}
	for pattern != "" {
		var want, have, name string
		if want, pattern = cut(pattern); want == "**" {
			return true
		}
		if key == "" {
			return false
		}
		have, key = cut(key)
		name, text = cut(text)
		switch claim := claimName(want); {
		case !isOpen(want):
			if want != have {
				return false
			}
		case have == "", want == "{user}" && !q.isUser(name) && !q.hidden, claim != "" && !q.isClaim(claim, name) && !q.hidden,
			want == "{patient}" && e.who == whoScope && !(q.token && q.isPatient(name)):
			return false
		}
	}
	return key == "" || e.folds() && key == "/"
}

// lacks says what of a line besides method and path is not there: 0 when all of it holds. It compares the subjects, too, of which a
// search has looked at one only. What cannot be known counts as the answer that denies.
func (e *entry) lacks(q *query) (m Missing) {
	unknown := e.kind == kindDeny
	if len(e.subjects) > 0 && (q.who == nil || !e.isFor(q.who, e.folds())) {
		return MissingRole
	}
	if e.device && (q.who == nil || !q.who.Device) {
		m |= MissingDevice
	}
	if e.networks != nil && !within(e.networks, q.request.Addr, unknown) {
		m |= MissingNetwork
	}
	if e.hours != nil && !e.hours.cover(q.request.Now, unknown) {
		m |= MissingHours
	}
	if e.when != nil && m == 0 && !e.says(q) {
		m |= MissingOther
	}
	if !e.need.isZero() && !e.isMet(q.who, q.request.Now) {
		m |= MissingLevel
	}
	return m
}

// says reports whether the expression holds, for a deny that it holds or has no answer. In a line that must not be dodged it sees the
// path as it is, in lower case (with what it is compared with in lower case, too), and each without a slash at the end, and the stricter
// answer counts: the app may make one of them.
func (e *entry) says(q *query) bool {
	strict := e.kind == kindDeny // the answer that refuses
	ask := func(when *condition.Condition, path string) bool {
		in := input(q, path, e.variables)
		if !q.request.affords(when.Steps(in)) {
			return strict
		}
		holds, err := when.Eval(in)
		return holds && err == nil || err != nil && strict
	}
	first := ask(e.when, q.path.decoded)
	if !e.folds() || first == strict {
		return first
	}
	isOther, folded := q.path.folded != q.path.decoded, e.when.Folded()
	refuses := func(n int) bool {
		return n < len(q.path.decoded) && ask(e.when, q.path.decoded[:n]) == strict || isOther && ask(e.when, q.path.folded[:n]) == strict ||
			folded != nil && ask(folded, q.path.folded[:n]) == strict
	}
	n := len(q.path.decoded)
	if refuses(n) || n > 1 && q.path.decoded[n-1] == '/' && e.when.Uses("request.path") && refuses(n-1) {
		return strict
	}
	return first
}

// maxSteps bounds what all expressions of one decision cost together, some milliseconds: what they cost follows the length of a path,
// which a stranger chooses. It is one pattern of the largest size for a path of 2600 characters, or some thousand usual expressions.
const maxSteps = 1 << 18

// affords reports whether an expression of so many steps fits into what is left, and takes them. What does not fit has no answer, and
// neither has any that comes after.
func (r *Request) affords(steps int) bool {
	if steps > maxSteps-r.spent {
		r.spent = maxSteps + 1
		return false
	}
	r.spent += steps
	return true
}

// input copies what an expression can see, so that a request that meets none allocates nothing.
func input(q *query, path string, list []variable) *condition.Input {
	r := q.request
	in := &condition.Input{Method: r.Method, Path: segmentText(path), Query: r.Query, Host: r.Host, Time: r.Now, Addr: r.Addr.Unmap()}
	if len(list) > 0 {
		in.Vars = captures{path, list}.value
	}
	if who := r.Who; who != nil {
		in.SignedIn, in.Claims = true, who.Claims
		in.User = condition.User{Name: who.Username, Roles: who.Roles, Groups: who.Groups, Org: who.Org, IDP: who.Source,
			ACR: who.ACR, AMR: who.AMR, AuthTime: who.AuthTime, Device: who.Device}
	}
	return in
}
