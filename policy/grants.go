package policy

import "slices"

// grants holds who is concerned at a node.
type grants struct {
	public, any *verbs
	by          [subjectKinds]map[string]*verbs // a line with several subjects is under one of them
	scoped      []*scoped
	all         []*entry // of lines that are all looked at: require and budget
}

// verbs holds the lines for one name, by their methods.
type verbs struct {
	all slot
	by  []verb
}

type verb struct {
	method string
	slot   slot
}

// slot holds the lines for one name and one method: the first that asks nothing else, and those that do.
type slot struct {
	plain *entry
	more  []*entry
}

// near collects what a search found that lacks something.
type near struct {
	levels  []*entry // what a sign-in would open, the most specific first
	entry   *entry   // the most specific that lacks something else
	missing Missing  // of entry
	all     bool     // lines that hold are among levels, too
}

func (n *near) see(e *entry, m Missing) {
	switch {
	case m&MissingRole != 0:
	case m == MissingLevel:
		n.levels = append(n.levels, e)
	case n.entry == nil:
		n.entry, n.missing = e, m
	}
}

func (g *grants) find(q *query) *entry {
	if g == nil {
		return nil
	}
	if e := g.public.find(q); e != nil {
		return e
	}
	if q.who == nil {
		return nil
	}
	if q.token {
		for _, l := range g.scoped {
			if e := l.find(q); e != nil {
				return e
			}
		}
		return nil
	}
	if e := g.any.find(q); e != nil {
		return e
	}
	return g.findNamed(q)
}

func (g *grants) findNamed(q *query) *entry {
	who := q.who
	if m := g.by[byUser]; m != nil && who.Username != "" {
		if e := lookUp(m, who.Username, q.fold).find(q); e != nil {
			return e
		}
	}
	if m := g.by[byGroup]; m != nil {
		for _, name := range who.Groups {
			if e := lookUp(m, name, q.fold).find(q); e != nil {
				return e
			}
		}
	}
	if m := g.by[byRole]; m != nil {
		for _, name := range who.Roles {
			if e := lookUp(m, name, q.fold).find(q); e != nil {
				return e
			}
		}
	}
	if m := g.by[byOrg]; m != nil && who.Org != "" {
		if e := lookUp(m, who.Org, q.fold).find(q); e != nil {
			return e
		}
	}
	if m := g.by[bySource]; m != nil && who.Source != "" {
		return lookUp(m, who.Source, q.fold).find(q)
	}
	return nil
}

// each goes to the lines that are all looked at.
func (g *grants) each(q *query, found func(*entry) bool) bool {
	if g == nil {
		return true
	}
	for _, e := range g.all {
		if e.lists(q.method) && !found(e) {
			return false
		}
	}
	return true
}

func (v *verbs) find(q *query) *entry {
	if v == nil {
		return nil
	}
	if v.all.plain != nil {
		return v.all.plain
	}
	for i := range v.by {
		if v.by[i].method == q.method {
			if e := v.by[i].slot.find(q); e != nil {
				return e
			}
			break
		}
	}
	return v.all.find(q)
}

func (s *slot) find(q *query) *entry {
	if s.plain != nil {
		return s.plain
	}
	for _, e := range s.more {
		if e.holds(q) {
			return e
		}
	}
	return nil
}

// holds reports whether all of a line holds, and tells near when it does not.
func (e *entry) holds(q *query) bool {
	m := e.lacks(q)
	switch {
	case q.near == nil:
		return m == 0
	case m == 0 && !q.near.all:
		return true
	case m == 0:
		m = MissingLevel
	}
	q.near.see(e, m)
	return false
}

// lookUp finds a name. The keys for a deny are in lower case; a name longer than maxName cannot be among them.
func lookUp(m map[string]*verbs, name string, fold bool) *verbs {
	if !fold || !hasUpper(name) {
		return m[name]
	}
	if len(name) > maxName {
		return nil
	}
	var buf [maxName]byte
	b := buf[:copy(buf[:], name)]
	lowerBytes(b)
	return m[string(b)]
}

func hasUpper(s string) bool {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}

// with adds the entry for everybody whom the line names and returns g, made when it was nil.
func (g *grants) with(e *entry) *grants {
	if g == nil {
		g = &grants{}
	}
	if e.kind == kindRequire || e.kind == kindBudget {
		g.all = append(g.all, e)
		return g
	}
	switch e.who {
	case whoPublic:
		g.public = g.public.with(e)
	case whoAny:
		g.any = g.any.with(e)
	case whoSome:
		g.named(e)
	case whoScope:
		g.scoped = append(g.scoped, &scoped{e})
	}
	return g
}

// named puts a line under that of its subjects which the fewest people are.
func (g *grants) named(e *entry) {
	subject := &e.subjects[0]
	for i := range e.subjects {
		if e.subjects[i].by < subject.by {
			subject = &e.subjects[i]
		}
	}
	if g.by[subject.by] == nil {
		g.by[subject.by] = map[string]*verbs{}
	}
	m, names := g.by[subject.by], subject.names
	if e.folds() {
		names = subject.folded
	}
	for _, name := range names {
		m[name] = m[name].with(e)
	}
}

func (v *verbs) with(e *entry) *verbs {
	if v == nil {
		v = &verbs{}
	}
	if len(e.methods) == 0 {
		v.all.put(e)
	}
	for _, method := range e.methods {
		v.put(method, e)
		if method == "GET" && !slices.Contains(e.methods, "HEAD") {
			v.put("HEAD", e)
		}
	}
	return v
}

func (v *verbs) put(method string, e *entry) {
	for i := range v.by {
		if v.by[i].method == method {
			v.by[i].slot.put(e)
			return
		}
	}
	v.by = append(v.by, verb{method: method})
	v.by[len(v.by)-1].slot.put(e)
}

func (s *slot) put(e *entry) {
	if !e.rule.plain() {
		s.more = append(s.more, e)
	} else if s.plain == nil {
		s.plain = e
	}
}
