package policy

import "slices"

// covers finds the lines whose patterns hold all that another pattern holds, without looking at all lines.
type covers struct {
	fold   bool // as deny and require lines compare
	root   coverNode
	looked int // at how many lines, up to maxLooked
}

// maxLooked bounds the lines of one place that are compared: a second or so.
const maxLooked = 1 << 25

type coverNode struct {
	next map[string]*coverNode // by a literal, "*" for any segment, "{user}", "{claim.x}", or "{patient}" of a scope line
	here coverers
	rest coverers // patterns that end in ** here
}

// coverers are the lines that end at one place: those that name somebody by the first name that they need, the others apart.
type coverers struct {
	all   []coverer
	named map[string][]coverer
}

type coverer struct {
	*rule
	pattern string
}

func (c *covers) add(r *rule) {
	for _, pattern := range r.patterns {
		n, path := &c.root, c.written(pattern)
		var list *coverers
		for list = &n.here; path != ""; list = &n.here {
			var segment string
			if segment, path = cut(path); segment == "**" {
				list = &n.rest
				break
			}
			segment = class(segment, r)
			if n.next == nil {
				n.next = map[string]*coverNode{}
			}
			if n.next[segment] == nil {
				n.next[segment] = &coverNode{}
			}
			n = n.next[segment]
		}
		list.add(coverer{r, pattern})
	}
}

func (c *covers) written(pattern string) string {
	if c.fold {
		return foldPattern(pattern)
	}
	return pattern
}

func (l *coverers) add(c coverer) {
	if len(c.subjects) == 0 {
		l.all = append(l.all, c)
		return
	}
	if l.named == nil {
		l.named = map[string][]coverer{}
	}
	for _, name := range c.subjects[0].names {
		key := c.subjects[0].by.String() + " " + lower(name)
		l.named[key] = append(l.named[key], c)
	}
}

// class returns what a segment of a line's pattern matches: a variable that is free is any segment.
func class(segment string, r *rule) string {
	if segment == "" || segment[0] != '{' || segment == "{user}" || claimName(segment) != "" || segment == "{patient}" && r.who == whoScope {
		return segment
	}
	return "*"
}

// atom is the smallest part of a line that another one covers or does not: one pattern, one method, one name of each kind.
type atom struct {
	*rule
	pattern string
	coverer string   // the pattern of the line it is compared with
	method  string   // "": all
	names   []string // one for each of the rule's subjects
}

// maxAtoms bounds the parts of one line for one pattern. A line of more is not taken apart.
const maxAtoms = 256

// coverers returns the lines that together cover all of r, nil when something is left. accepts compares one of them with a part of r.
func (c *covers) coverers(r *rule, accepts func(*rule, *atom) bool) (by []*rule) {
	for _, pattern := range r.patterns {
		atoms := r.atoms(pattern)
		if atoms == nil {
			return nil
		}
		for i := range atoms {
			a := &atoms[i]
			found := c.find(a, accepts)
			if found == nil {
				return nil
			}
			if !slices.Contains(by, found) {
				by = append(by, found)
			}
		}
	}
	return by
}

func (r *rule) atoms(pattern string) []atom {
	atoms := []atom{{rule: r, pattern: pattern}}
	if len(r.methods) > 0 {
		atoms = atoms[:0]
		for _, method := range r.methods {
			atoms = append(atoms, atom{rule: r, pattern: pattern, method: method}) // whoever lists GET lists HEAD
		}
	}
	for i := range r.subjects {
		var more []atom
		for _, a := range atoms {
			for _, name := range r.subjects[i].names {
				a.names = append(slices.Clip(a.names), name)
				more = append(more, a)
				a.names = a.names[:i]
			}
		}
		if atoms = more; len(atoms) > maxAtoms {
			return nil
		}
	}
	return atoms
}

// find returns the first line that covers a part of another.
func (c *covers) find(a *atom, accepts func(*rule, *atom) bool) (found *rule) {
	look := func(list []coverer) bool {
		if c.looked += len(list); c.looked > maxLooked {
			return false
		}
		for _, other := range list {
			a.coverer = other.pattern
			if (len(other.methods) == 0 || a.method != "" && other.lists(a.method)) && accepts(other.rule, a) {
				found = other.rule
				return true
			}
		}
		return false
	}
	c.root.walk(c.written(a.pattern), a.rule, func(l *coverers) bool {
		if look(l.all) {
			return true
		}
		for i, name := range a.names {
			if look(l.named[a.subjects[i].by.String()+" "+lower(name)]) {
				return true
			}
		}
		return false
	})
	return found
}

// walk visits all places whose patterns hold whatever the pattern holds, until visit says that it is enough.
func (n *coverNode) walk(pattern string, r *rule, visit func(*coverers) bool) bool {
	if n == nil {
		return false
	}
	if visit(&n.rest) || pattern == "" && visit(&n.here) {
		return true
	}
	if pattern == "" {
		return false
	}
	segment, rest := cut(pattern)
	if segment == "**" {
		return false
	}
	segment = class(segment, r)
	if n.next[segment].walk(rest, r, visit) {
		return true
	}
	return segment != "" && segment != "*" && n.next["*"].walk(rest, r, visit)
}

// listsAll reports whether a list of methods holds all of another; none is all methods.
func listsAll(methods, others []string) bool {
	if len(methods) == 0 {
		return true
	}
	r := rule{methods: methods}
	return len(others) > 0 && !slices.ContainsFunc(others, func(m string) bool {
		return !r.lists(m) || m == "GET" && !r.lists("HEAD")
	})
}
