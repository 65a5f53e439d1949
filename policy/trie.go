package policy

import "strings"

// A node stands for the segments of a pattern up to here. Each pattern has one way through the tree, so that a search meets
// a node at most once, and of the children of each those that fit.
type node struct {
	exact  children // a literal segment
	user   *node    // {user}
	claims []claim  // {claim.NAME}
	bound  *node    // {patient} of a line for scopes
	one    *node    // "*" and free variables
	here   *grants  // patterns that end here
	rest   *grants  // patterns that end in ** here
}

// claim is the child for one {claim.NAME}.
type claim struct {
	name string
	node *node
}

// children are found by their segment: a few by looking at each, many in a map.
type children struct {
	few  []child
	many map[string]*node
}

type child struct {
	segment string
	node    *node
}

const few = 8

func (c *children) get(segment string) *node {
	if c.many != nil {
		return c.many[segment]
	}
	for i := range c.few {
		if c.few[i].segment == segment {
			return c.few[i].node
		}
	}
	return nil
}

// make returns the child for a segment, a new one when there is none.
func (c *children) make(segment string) *node {
	if n := c.get(segment); n != nil {
		return n
	}
	n := &node{}
	switch {
	case c.many != nil:
		c.many[segment] = n
	case len(c.few) < few:
		c.few = append(c.few, child{segment, n})
	default:
		c.many = map[string]*node{segment: n}
		for _, old := range c.few {
			c.many[old.segment] = old.node
		}
		c.few = nil
	}
	return n
}

// query is what one search compares with.
type query struct {
	method  string
	who     *Subject
	request *Request
	path    *Path
	same    bool  // what literals and what variables are compared with is one text
	fold    bool  // a line that must not be dodged: ASCII case and a slash at the end do not count
	hidden  bool  // who is asking may turn out to be anybody: a {user} is anything as long as nobody is signed in
	token   bool  // an allow for a token, which is nobody's presence
	wanting bool  // look for what other scopes would open
	near    *near // look for what lacks little, and find nothing
}

// find returns the entry of the most specific pattern that matches: literals before {user} before {claim.NAME} before {patient}
// before "*" and free variables before "**". key is what literals are compared with, text what variables are compared with; they have
// the same segments, each after its slash.
func (n *node) find(q *query, key, text string) *entry {
	if key == "" {
		if e := n.here.find(q); e != nil {
			return e
		}
		return n.rest.find(q)
	}
	segment, key2 := cut(key)
	name, text2 := segment, key2
	if !q.same {
		name, text2 = cut(text)
	}
	if next := n.exact.get(segment); next != nil {
		if e := next.find(q, key2, text2); e != nil {
			return e
		}
	}
	if n.user != nil || n.claims != nil || n.bound != nil {
		if e := n.findBound(q, key2, name, text2); e != nil {
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

// findBound goes to the children that are about who is asking.
func (n *node) findBound(q *query, key2, name, text2 string) *entry {
	if n.user != nil && q.isUser(name) {
		if e := n.user.find(q, key2, text2); e != nil {
			return e
		}
	}
	for i := range n.claims {
		if c := &n.claims[i]; q.isClaim(c.name, name) {
			if e := c.node.find(q, key2, text2); e != nil {
				return e
			}
		}
	}
	if n.bound != nil && q.token && q.isPatient(name) {
		return n.bound.find(q, key2, text2)
	}
	return nil
}

// each goes to all entries whose pattern and method match, for lines that must not be dodged, until found returns false.
func (n *node) each(q *query, text string, found func(*entry) bool) bool {
	if text == "" {
		return n.here.each(q, found) && n.rest.each(q, found)
	}
	segment, rest := cut(text)
	if next := n.exact.get(segment); next != nil && !next.each(q, rest, found) {
		return false
	}
	if n.user != nil && segment != "" && (q.isUser(segment) || q.hidden) && !n.user.each(q, rest, found) {
		return false
	}
	for i := range n.claims {
		c := &n.claims[i]
		if segment != "" && (q.isClaim(c.name, segment) || q.hidden) && !c.node.each(q, rest, found) {
			return false
		}
	}
	if n.one != nil && segment != "" && !n.one.each(q, rest, found) {
		return false
	}
	if text == "/" && !n.here.each(q, found) {
		return false
	}
	return n.rest.each(q, found)
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
	return q.who != nil && q.isName(segment, q.who.Username)
}

// isClaim compares a decoded segment with a claim. One that is empty or not there equals nothing.
func (q *query) isClaim(name, segment string) bool {
	return q.who != nil && q.isName(segment, q.who.Claims[name])
}

func (q *query) isName(segment, name string) bool {
	if name == "" {
		return false
	}
	if q.fold {
		return equalFold(segment, name) || strings.IndexByte(segment, keptSlash) >= 0 && equalFold(segmentText(segment), name)
	}
	return segment == name // an encoded slash equals none: the app may take it for two segments
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

// add puts one pattern of a rule into the tree. The first line that was written for a place stays the one that is reported. With
// loose, which is for allow lines, the case of its literals does not count.
func (n *node) add(e *entry, loose bool) {
	r, pattern := e.rule, e.route
	path := pattern
	if r.folds() {
		path = foldPattern(path)
	} else if loose {
		path = lower(path)
	}
	for path != "" {
		var segment string
		segment, path = cut(path)
		if segment == "**" {
			n.rest = n.rest.with(e)
			return
		}
		n = n.child(r, segment)
	}
	n.here = n.here.with(e)
}

func (n *node) child(r *rule, segment string) *node {
	switch name := claimName(segment); {
	case segment == "{user}":
		return made(&n.user)
	case name != "":
		for i := range n.claims {
			if n.claims[i].name == name {
				return n.claims[i].node
			}
		}
		n.claims = append(n.claims, claim{name, &node{}})
		return n.claims[len(n.claims)-1].node
	case segment == "{patient}" && r.who == whoScope:
		return made(&n.bound)
	case segment == "*" || variableName(segment) != "":
		return made(&n.one)
	}
	return n.exact.make(segment)
}

func made(n **node) *node {
	if *n == nil {
		*n = &node{}
	}
	return *n
}
