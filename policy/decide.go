package policy

// newQuery prepares a search that compares exactly.
func newQuery(r *Request, path *Path) query {
	return query{method: r.Method, who: r.Who, request: r, path: path}
}

// Decide answers r. It never fails: whatever is not allowed for a stated reason is denied. It allocates only to say what is missing,
// to put several require lines together for a step-up, to evaluate a `when`, and in a site that ignores case for a path with escapes.
//
// A path with several readings is judged in each of them, and the strictest answer counts.
func (p *Policy) Decide(r Request) Decision { return p.decideAll(&r) }

func (p *Policy) decideAll(r *Request) Decision {
	switch {
	case p == nil:
		return Decision{Reason: ReasonNoPolicy}
	case r.Path.raw == "":
		return Decision{Reason: ReasonPath}
	case !p.Knows(r.Method):
		return Decision{Reason: ReasonMethod}
	}
	d := p.decide(r, &r.Path)
	others := r.Path.readings()
	for i := range others {
		d = stricter(d, p.decide(r, &others[i]))
	}
	return d
}

// decide judges one reading of a path.
func (p *Policy) decide(r *Request, path *Path) Decision {
	q := newQuery(r, path)
	if e := p.denied(&q); e != nil {
		return Decision{Rule: e.text, Route: e.route, Reason: ReasonDenied}
	}
	q.token = r.Who != nil && r.Who.Bearer
	e := p.allowed(&p.allow, &q)
	if e == nil {
		return p.noRule(&q)
	}
	if p.requires {
		d := p.unmet(&q, e.need, false)
		if d.Reason == ReasonDenied && !e.need.isZero() {
			d = p.otherwise(&q, d)
		}
		if d.Reason != "" {
			return d
		}
	}
	return Decision{Allowed: true, Rule: e.text, Route: e.route, Reason: ReasonAllowed, Public: e.who == whoPublic}
}

// denied returns the deny line that matches.
func (p *Policy) denied(q *query) *entry {
	q.fold, q.same = true, true
	e := p.deny.find(q, q.path.folded, q.path.folded)
	q.fold = false
	return e
}

// allowed returns the line of a tree of allow or break_glass lines that matches.
func (p *Policy) allowed(tree *node, q *query) *entry {
	key, text := p.exact(q.path)
	q.same = !p.loose && len(key) == len(text)
	return tree.find(q, key, text)
}

// exact returns what literals and what variables of an allow line are compared with. Literals are compared with the bytes that were
// received, so that /%61dmin is not /admin; in a site that ignores case, with these in lower case. Names of people and of what is
// theirs are compared exactly in both: an app that ignores case in its routes may well tell the records aB and Ab apart.
func (p *Policy) exact(path *Path) (key, text string) {
	switch {
	case !p.loose:
		return path.raw, path.decoded
	case len(path.raw) == len(path.decoded): // there are no escapes
		return path.folded, path.decoded
	}
	return lower(path.raw), path.decoded
}

// noRule says what is missing when no line allows a request.
func (p *Policy) noRule(q *query) Decision {
	if q.who == nil {
		return Decision{Reason: ReasonNoSession}
	}
	var n near
	q.near = &n
	p.allowed(&p.allow, q)
	q.near = nil
	if d := p.nearly(q, &n); d.Reason != "" {
		return d
	}
	if q.token {
		q.wanting = true
		e := p.allowed(&p.allow, q)
		q.wanting = false
		if e != nil {
			return Decision{Rule: e.text, Route: e.route, Reason: ReasonScope, Scopes: e.scopeTexts()}
		}
		return Decision{Reason: ReasonNoRule}
	}
	// Whether anybody else is allowed is not for this person to know.
	d := Decision{Reason: ReasonNoRule, Missing: MissingRole}
	if len(n.levels) > 0 {
		d.Missing = MissingLevel
	}
	return d
}

// otherwise looks for another allow line whose levels, other than those of the line that was found, go together with what is required.
func (p *Policy) otherwise(q *query, d Decision) Decision {
	n := near{all: true}
	q.near = &n
	e := p.allowed(&p.allow, q)
	q.near = nil
	if e != nil {
		n.levels = append(n.levels, e)
	}
	for _, e := range n.levels {
		if better := p.unmet(q, e.need, true); better.Reason == ReasonStepUp {
			return better
		}
	}
	return d
}

// nearly answers for the lines that would allow the request if something was otherwise that is not who is asking; the zero Decision
// when there are none, or when the levels of none of them go together with what is required besides.
func (p *Policy) nearly(q *query, n *near) (d Decision) {
	for _, e := range n.levels {
		d = p.unmet(q, e.need, true)
		switch d.Reason {
		case ReasonStepUp:
			d.Rule, d.Route = e.text, e.route
			return d
		case ReasonCondition:
			return d
		}
	}
	if n.entry != nil {
		return Decision{Rule: n.entry.text, Route: n.entry.route, Reason: ReasonCondition, Missing: n.missing}
	}
	return Decision{}
}

// strictness orders the reasons.
var strictness = map[string]int{ReasonAllowed: 0, ReasonStepUp: 1, ReasonNoSession: 2, ReasonScope: 3, ReasonCondition: 4, ReasonNoRule: 5, ReasonDenied: 6}

// stricter puts the answers for two readings of one path together. What two of them ask a sign-in for it has to show at once.
func stricter(a, b Decision) Decision {
	switch x, y := strictness[a.Reason], strictness[b.Reason]; {
	case x < y || a.Allowed && b.Allowed && a.Public && !b.Public:
		return b
	case x > y || a.Reason != ReasonStepUp:
		return a
	}
	a.Need.add(&b.Need)
	if a.Need.ACR != nil && len(a.Need.ACR) == 0 {
		return Decision{Rule: a.Rule, Route: a.Route, Reason: ReasonDenied, Missing: MissingLevel}
	}
	return a
}
