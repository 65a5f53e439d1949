package policy

import "strings"

// A node stands for the segments of a pattern up to here. Each pattern has one way through the tree, so that a search meets
// a node at most once, and at most three children of each.
type node struct {
	exact map[string]*node // a literal segment
	user  *node            // {user}
	ill   *node            // {patient}
	one   *node            // *
	here  *grants          // patterns that end here
	rest  *grants          // patterns that end in ** here
}

// entry is what a search returns: one line and the pattern of it.
type entry struct {
	rule, route string
	public      bool
	scopes      []string // of a line for scopes
}

// verbs holds the entry of each method for one WHO.
type verbs struct {
	all *entry
	by  map[string]*entry
}

// grants holds who is concerned at a node.
type grants struct {
	public, any  *verbs
	roles, users map[string]*verbs
	scoped       []*scoped
	demands      []*demand
}

// query is what one search compares with.
type query struct {
	method  string
	who     *Subject
	fold    bool // a deny: ASCII case and a slash at the end do not count
	token   bool // an allow for a token, which is nobody's presence
	wanting bool // look for what other scopes would open
	request *Request
}

// find returns the entry of the most specific pattern that matches: literals before {user} before {patient} before "*" before
// "**". key is what literals are compared with, text what variables are compared with; they have the same segments, each after its
// slash.
func (n *node) find(q *query, key, text string) *entry {
	if key == "" {
		if e := n.here.find(q); e != nil {
			return e
		}
		return n.rest.find(q)
	}
	segment, key2 := cut(key)
	name, text2 := cut(text)
	if next := n.exact[segment]; next != nil {
		if e := next.find(q, key2, text2); e != nil {
			return e
		}
	}
	if n.user != nil && q.isUser(name) {
		if e := n.user.find(q, key2, text2); e != nil {
			return e
		}
	}
	if n.ill != nil && q.token && q.isPatient(name) {
		if e := n.ill.find(q, key2, text2); e != nil {
			return e
		}
	}
	if n.one != nil && segment != "" {
		if e := n.one.find(q, key2, text2); e != nil {
			return e
		}
	}
	if q.fold && key == "/" {
		if e := n.here.find(q); e != nil {
			return e
		}
	}
	return n.rest.find(q)
}

// cut splits "/segment/more" into "segment" and "/more".
func cut(path string) (segment, rest string) {
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[1 : i+1], path[i+1:]
	}
	return path[1:], ""
}

// isUser compares a decoded segment with the username. An empty username equals nothing.
func (q *query) isUser(segment string) bool {
	if q.who == nil || q.who.Username == "" {
		return false
	}
	if q.fold {
		return equalFold(segment, q.who.Username)
	}
	return segment == q.who.Username
}

// equalFold compares folded, which is in lower case, with name and ignores the case of ASCII letters only.
func equalFold(folded, name string) bool {
	if len(folded) != len(name) {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if folded[i] != c {
			return false
		}
	}
	return true
}

func (g *grants) find(q *query) *entry {
	if g == nil {
		return nil
	}
	if e := g.public.find(q.method); e != nil {
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
	if e := g.any.find(q.method); e != nil {
		return e
	}
	if g.users != nil && q.who.Username != "" {
		if e := lookUp(g.users, q.who.Username, q.fold).find(q.method); e != nil {
			return e
		}
	}
	if g.roles != nil {
		for _, role := range q.who.Roles {
			if e := lookUp(g.roles, role, q.fold).find(q.method); e != nil {
				return e
			}
		}
	}
	return nil
}

func (v *verbs) find(method string) *entry {
	if v == nil {
		return nil
	}
	if v.all != nil {
		return v.all
	}
	return v.by[method]
}

// lookUp finds a name. The keys for a deny are in lower case; a name longer than maxName cannot be among them.
func lookUp(m map[string]*verbs, name string, fold bool) *verbs {
	if !fold {
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

// add puts one pattern of a rule into the tree. The first line that was written for a place stays the one that is reported.
func (n *node) add(r *rule, pattern string) {
	e := &entry{rule: r.text, route: pattern, public: r.who == whoPublic && !r.deny}
	if r.who == whoScope {
		e.scopes = r.scopeTexts()
	}
	path := pattern
	if r.deny || r.demands {
		path = foldPattern(path)
	}
	for path != "" {
		var segment string
		segment, path = cut(path)
		switch segment {
		case "**":
			n.rest = n.rest.with(r, e)
			return
		case "*":
			n = child(&n.one)
		case "{user}":
			n = child(&n.user)
		case "{patient}":
			n = child(&n.ill)
		default:
			if n.exact == nil {
				n.exact = map[string]*node{}
			}
			next := n.exact[segment]
			n.exact[segment] = child(&next)
			n = next
		}
	}
	n.here = n.here.with(r, e)
}

func child(n **node) *node {
	if *n == nil {
		*n = &node{}
	}
	return *n
}

// with adds the entry for everybody whom the rule names and returns g, made when it was nil.
func (g *grants) with(r *rule, e *entry) *grants {
	if g == nil {
		g = &grants{}
	}
	switch r.who {
	case whoPublic:
		g.public = g.public.with(r.methods, e)
	case whoAny:
		g.any = g.any.with(r.methods, e)
	case whoRole:
		g.roles = named(g.roles, r, e)
	case whoUser:
		g.users = named(g.users, r, e)
	case whoScope:
		g.scoped = append(g.scoped, &scoped{r, e, hasSegment(e.route, "{patient}")})
	case whoEverybody:
		g.demands = append(g.demands, &demand{r, e})
	}
	return g
}

func named(m map[string]*verbs, r *rule, e *entry) map[string]*verbs {
	if m == nil {
		m = map[string]*verbs{}
	}
	for _, name := range r.names {
		if r.deny {
			name = lower(name)
		}
		m[name] = m[name].with(r.methods, e)
	}
	return m
}

func (v *verbs) with(methods []string, e *entry) *verbs {
	if v == nil {
		v = &verbs{}
	}
	if len(methods) == 0 && v.all == nil {
		v.all = e
	}
	for _, method := range methods {
		v.put(method, e)
		if method == "GET" {
			v.put("HEAD", e)
		}
	}
	return v
}

func (v *verbs) put(method string, e *entry) {
	if v.by == nil {
		v.by = map[string]*entry{}
	}
	if v.by[method] == nil {
		v.by[method] = e
	}
}
