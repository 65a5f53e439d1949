package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// names finds names that nothing gives to anybody. A line that allows is the narrower for it, which an operator may be about to mend
// in the identity source; one that denies, or counts, would do so for nobody.
func (j *judgement) names(r *rule) {
	for i := range r.subjects {
		s := &r.subjects[i]
		known, given := j.given(s.by)
		if known == nil {
			continue
		}
		for _, name := range s.names {
			if !slices.ContainsFunc(known, func(k string) bool { return k == name || r.folds() && lower(k) == lower(name) }) {
				say := j.warn
				if r.folds() {
					say = j.wrong
				}
				say(r, foundUnknown, fmt.Sprintf("nothing gives anybody the %s %q", s.by, name), instead(name, known, given))
			}
		}
	}
	for _, pattern := range r.patterns {
		for segment := range strings.SplitSeq(pattern, "/") {
			if name := claimName(segment); name != "" && j.config.Claims != nil && !slices.Contains(j.config.Claims, name) {
				j.wrong(r, foundUnknown, fmt.Sprintf("no identity source has a claim %q, so that %s equals no segment", name, segment),
					instead(name, j.config.Claims, "`claim "+name+"` into the identity source"))
			}
		}
	}
	if r.when == nil {
		return
	}
	for by, name := range map[byWhat]string{byRole: "user.roles", byGroup: "user.groups", bySource: "user.idp"} {
		known, given := j.given(by)
		for _, text := range r.when.Mentions(name) {
			if known != nil && !slices.Contains(known, text) {
				j.warn(r, foundUnknown, fmt.Sprintf("nothing gives anybody the %s %q, with which the expression compares", by, text), instead(text, known, given))
			}
		}
	}
}

// given returns the names of one kind that the configuration gives, nil when that is not known or not to be known, and what makes one.
func (j *judgement) given(by byWhat) (known []string, write string) {
	switch by {
	case byRole:
		return j.config.Roles, "`role NAME from \"VALUE\"` into the identity source"
	case byGroup:
		return j.config.Groups, "`group NAME from \"VALUE\"` into the identity source"
	case bySource:
		return j.config.Sources, "the name of an identity source"
	}
	return nil, ""
}

// instead says what to write instead of a name.
func instead(name string, known []string, given string) string {
	for _, k := range known {
		if lower(k) == lower(name) || oneSlip(lower(name), lower(k)) {
			return "`" + k + "`"
		}
	}
	if n := len(known); n > 0 && n <= 8 {
		return "one of `" + strings.Join(slices.Sorted(slices.Values(known)), "`, `") + "`, or " + given
	}
	return given
}

// glass finds emergency access that never comes about, and one that may be for more than one patient.
func (j *judgement) glass(r *rule) {
	if r.kind != kindGlass {
		return
	}
	if !r.lists("GET") {
		j.wrong(r, foundNever, "it never opens anything: emergency access is offered for a page and leads back to it, by a GET", "`GET` among its methods, or no methods")
	}
	for _, pattern := range r.patterns {
		if named := variables(pattern); len(named) > 1 && !hasSegment(pattern, "{patient}") {
			j.warn(r, foundVariable, fmt.Sprintf("one grant is for one {%s} and for all below it in %s", named[0].name, pattern), "`{patient}` for the variable that a grant is for")
		}
		j.lists(r, pattern)
	}
}

// lists finds what other lines name where the patient of an emergency access stands: `/patients/export` is no patient, and one grant
// for it opens the records of all. Who has denied it for somebody has thought of it.
func (j *judgement) lists(glass *rule, pattern string) {
	at := subjectAt(pattern)
	named := func(other string) (path, name string) {
		segments := strings.Split(strings.TrimPrefix(other, "/"), "/")
		if at >= len(segments) || segments[at] == "" || segments[at] == "**" || isOpen(segments[at]) {
			return "", ""
		}
		path = "/" + strings.Join(segments[:at+1], "/")
		if !meet(path+"/**", pattern) {
			return "", ""
		}
		return path, segments[at]
	}
	told := map[string]bool{}
	for _, deny := range j.rules {
		if deny.kind == kindDeny && !deny.shadow {
			for _, p := range deny.patterns {
				path, _ := named(p)
				told[lower(path)] = true
			}
		}
	}
	for _, other := range j.rules {
		if other.shadow || other.kind == kindDeny || other.kind == kindGlass || j.compared(1) {
			continue
		}
		for _, p := range other.patterns {
			if path, name := named(p); path != "" && !told[lower(path)] {
				told[lower(path)] = true
				j.warn(glass, foundOpen, fmt.Sprintf("it opens %s of %s as if it were a patient %q", path, quoted([]*rule{other}), name),
					fmt.Sprintf("`deny` for %s/** to those whom it names, if that shows more than one patient", path))
			}
		}
	}
}

// variables finds variables that are free and hardly meant to be: every segment matches them.
func (j *judgement) variables(r *rule) {
	for _, pattern := range r.patterns {
		for _, v := range variables(pattern) {
			if v.name == "patient" || r.when != nil && r.when.Uses("path."+v.name) || r.kind == kindBudget && r.budget.variable == v.name {
				continue
			}
			free := fmt.Sprintf("{%s} is any segment, not that of who is asking", v.name)
			switch {
			case r.who != whoPublic && oneSlip(v.name, "user"):
				j.wrong(r, foundVariable, free, "`{user}` for the username, or `*` for any one segment")
			case r.who == whoScope && oneSlip(v.name, "patient"):
				j.wrong(r, foundVariable, fmt.Sprintf("{%s} is any segment, not the token's patient", v.name), "`{patient}`, or `*` for any one segment")
			case slices.Contains(j.config.Claims, v.name):
				j.warn(r, foundVariable, free, fmt.Sprintf("`{claim.%s}` for the claim of the session, or `*` for any one segment", v.name))
			}
		}
	}
}

// everyAddress is what is not worth naming.
var everyAddress = spans([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})

// conditions finds conditions that are always met or never, and what the expressions warn of.
func (j *judgement) conditions(r *rule) {
	if r.hours != nil && r.hours.isAlways() {
		j.warn(r, foundUseless, "these hours are all hours", "the line without `hours`")
	}
	if r.networks != nil && isWithinSpans(everyAddress, r.networks) {
		j.warn(r, foundUseless, "this network is every address", "the line without `network`")
	}
	if r.networks != nil && len(r.networks) == 0 {
		j.wrong(r, foundNever, "this network has no address", "a network that has some")
	}
	if r.when == nil {
		return
	}
	for _, w := range r.when.Warnings() {
		j.warn(r, foundWhen, w.Wrong, w.Write)
	}
	holds, constant := r.when.Constant()
	switch {
	case !constant:
	case holds:
		j.warn(r, foundUseless, "the expression is always true", "the line without `when`")
	case r.kind == kindRequire:
		j.wrong(r, foundNever, "the expression is never true, so that this closes all that the line is about", "`deny public` for what is to be closed")
	default:
		j.wrong(r, foundNever, "the expression is never true, so that the line never matches", "the expression as it is meant, or the line away")
	}
}

// unmet finds lines that no request meets because of the require lines that hold for all they are about, and require lines that no
// request meets together.
func (j *judgement) unmet() {
	var demands []*rule
	for _, r := range j.rules {
		if r.kind == kindRequire && !r.shadow {
			demands = append(demands, r)
		}
	}
	for i, r := range demands {
		if j.compared(i) {
			return
		}
		for _, other := range demands[:i] {
			if why := r.contradicts(other); why != "" && len(r.need.ACR) == 0 && r.concernsSame(other) {
				j.wrong(r, foundContradiction, "nobody meets this and "+quoted([]*rule{other})+" at once: "+why, "one condition that holds for both, or paths that do not overlap")
			}
		}
	}
	for _, r := range j.rules {
		if r.kind != kindAllow && r.kind != kindGlass || j.closed[r] || len(demands) == 0 {
			continue
		}
		j.close(r)
	}
}

// close finds what require lines leave of one line.
func (j *judgement) close(r *rule) {
	why, asks := "", (*rule)(nil)
	by := j.requires.coverers(r, func(demand *rule, a *atom) bool {
		if r.who == whoPublic && (!demand.need.isZero() || demand.device) {
			asks = demand
		}
		text := r.contradicts(demand)
		if text != "" {
			why = text
		}
		return text != ""
	})
	if by != nil {
		j.wrong(r, foundNever, "nobody meets this and "+quoted(by)+" at once: "+why, "one condition that holds for both, or paths that do not overlap")
		j.closed[r] = true
	} else if asks != nil {
		j.warn(r, foundContradiction, quoted([]*rule{asks})+" asks for a session, so that this is not public", "`any` instead of public, or a require for other paths")
	}
}
