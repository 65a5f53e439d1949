package report

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// Outcome is what becomes of a request of the log.
type Outcome string

// The outcomes.
const (
	Same       Outcome = "same"
	WouldAllow Outcome = "would be allowed"
	WouldDeny  Outcome = "would be denied"
	CannotTell Outcome = "cannot tell" // the record does not hold what decides
)

// Result counts the records of an audit log by what these sites decide about them now.
type Result struct {
	Lines      int     `json:"lines"`       // all that were read
	Requests   int     `json:"requests"`    // of them decisions of a policy about one request
	Same       int     `json:"same"`        // decided as then
	WouldAllow int     `json:"would_allow"` // refused then
	WouldDeny  int     `json:"would_deny"`  // allowed then
	CannotTell int     `json:"cannot_tell"`
	Others     int     `json:"others"`  // records of something else, and refusals that no rule made
	Foreign    int     `json:"foreign"` // of sites that this config does not gate
	Unreadable int     `json:"bad"`     // lines that are no record: torn, too long, not of the log
	Groups     []Group `json:"groups"`  // what is not the same, by why
}

// Group are records that one line, or one cause, decides about.
type Group struct {
	Outcome  Outcome   `json:"outcome"`
	Why      string    `json:"why"`
	Count    int       `json:"count"`
	Examples []Example `json:"examples"`
}

// Example is one record.
type Example struct {
	Ref    string `json:"ref"`
	Time   string `json:"time"`
	Who    string `json:"who"`
	Method string `json:"method"`
	Site   string `json:"site"`
	Path   string `json:"path"`
	Rule   string `json:"rule,omitempty"` // that decided then
}

const (
	maxRecord   = 128 << 10 // of a line; the audit log writes at most 96 KiB
	maxExamples = 3
	maxShown    = 600  // bytes of a field of an example
	maxGroups   = 1000 // beyond that only the count goes on
)

// Replay decides requests of an audit log again. It keeps counts and a few examples, however long the log.
type Replay struct {
	sites  []*Site
	made   map[*Site]made
	result Result
	index  map[[2]string]int
}

// NewReplay decides by the policies of these sites.
func NewReplay(sites []*Site) *Replay {
	r := &Replay{sites: sites, made: map[*Site]made{}, index: map[[2]string]int{}, result: Result{Groups: []Group{}}}
	for _, s := range sites {
		r.made[s] = newMade(s)
	}
	return r
}

// Read takes one file of the log. Lines that are no records are counted; an error is the reader's.
func (r *Replay) Read(from io.Reader) error {
	in := bufio.NewReaderSize(from, maxRecord)
	for {
		line, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) { // nobody wrote this as a record
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 0 || long {
			r.line(line, long)
		}
		if err != nil {
			return nil
		}
	}
}

func (r *Replay) line(line []byte, long bool) {
	r.result.Lines++
	rec, ok := parseRecord(line)
	if long || !ok {
		r.result.Unreadable++
		return
	}
	allowed, ok := rec.isDecision()
	if !ok {
		r.result.Others++
		return
	}
	i := slices.IndexFunc(r.sites, func(s *Site) bool { return s.Serves(rec.Site) })
	if i < 0 {
		r.result.Foreign++
		return
	}
	r.result.Requests++
	outcome, why := r.sites[i].again(r.made[r.sites[i]], &rec, allowed)
	switch outcome {
	case Same:
		r.result.Same++
		return
	case WouldAllow:
		r.result.WouldAllow++
	case WouldDeny:
		r.result.WouldDeny++
	default:
		r.result.CannotTell++
	}
	r.keep(outcome, why, &rec)
}

// keep adds a record to its group.
func (r *Replay) keep(outcome Outcome, why string, rec *record) {
	key := [2]string{string(outcome), why}
	i, ok := r.index[key]
	if !ok {
		if len(r.result.Groups) == maxGroups {
			return
		}
		i = len(r.result.Groups)
		r.index[key] = i
		r.result.Groups = append(r.result.Groups, Group{Outcome: outcome, Why: why, Examples: []Example{}})
	}
	g := &r.result.Groups[i]
	if g.Count++; len(g.Examples) < maxExamples {
		who := rec.Name
		if rec.ClientID != "" {
			who = strings.TrimSpace(who + " by " + rec.ClientID)
		}
		e := Example{rec.Ref, rec.Time, who, rec.Method, rec.Site, rec.shape(), rec.Rule}
		for _, field := range []*string{&e.Ref, &e.Time, &e.Who, &e.Method, &e.Site, &e.Path, &e.Rule} {
			*field = strings.Clone((*field)[:min(len(*field), maxShown)]) // the log cuts at less
		}
		g.Examples = append(g.Examples, e)
	}
}

// What a record can lack.
const (
	lacksPath  = "the record has no path"
	lacksPart  = "the record was cut"
	lacksNames = "the record has * where lines have names"
	lacksMuch  = "the record has * in too many places, or the path was longer"
	lacksFacts = "a line asks for what the log does not hold"
)

// again decides a record by the site's policy.
func (s *Site) again(m made, rec *record, allowed bool) (Outcome, string) {
	shape := rec.shape()
	switch {
	case shape == "" || shape[0] != '/':
		return CannotTell, lacksPath
	case rec.isCut():
		return CannotTell, lacksPart
	}
	paths, ok := s.fill(m, shape, rec.Name)
	if !ok {
		return CannotTell, lacksMuch
	}
	request, known := rec.request()
	request.Host = bareHost(rec.Site)
	var sum replayed
	for _, path := range paths {
		s.reading(&sum, request, known, path, rec.Emergency != "")
	}
	switch {
	case sum.allow && sum.deny && sum.facts != "":
		return CannotTell, lacksFacts + ": " + sum.facts
	case sum.allow && sum.deny, !sum.allow && !sum.deny:
		return CannotTell, lacksNames
	case sum.allow == allowed:
		return Same, ""
	case sum.allow:
		return WouldAllow, sum.rule
	}
	return WouldDeny, sum.rule
}

// replayed sums up what is decided for all paths that a record can stand for.
type replayed struct {
	allow, deny bool
	rule, facts string
}

// reading adds one path.
func (s *Site) reading(sum *replayed, r policy.Request, known facts, path string, emergency bool) {
	p, err := s.Policy.ParsePath(path)
	if err != nil {
		return // refused before the rules, then as now
	}
	r.Path = p
	for _, who := range s.people(r.Who, path) {
		r.Who = who
		v := s.judge(r, known)
		if !v.mayAllow && emergency {
			if _, ok := s.Policy.Emergency(r); ok {
				v.mayAllow, v.mayDeny = true, false
			}
		}
		sum.allow, sum.deny = sum.allow || v.mayAllow, sum.deny || v.mayDeny
		if v.mayAllow && v.mayDeny && sum.facts == "" {
			sum.facts = v.depends()[0].text
		}
		if sum.rule == "" {
			sum.rule = v.decision.Rule
			if sum.rule == "" {
				sum.rule = unruled[v.decision.Reason]
			}
		}
	}
}

// unruled says why no line decided.
var unruled = map[string]string{
	policy.ReasonNoRule: "no line allows it", policy.ReasonNoSession: "nobody is signed in, and no line for public allows it",
	policy.ReasonMethod: "the policy does not know the method", policy.ReasonScope: "the token's scopes are too few",
}

// Result is the count so far, the largest groups first.
func (r *Replay) Result() Result {
	out := r.result
	out.Groups = slices.Clone(out.Groups)
	order := []Outcome{WouldAllow, WouldDeny, CannotTell}
	slices.SortStableFunc(out.Groups, func(a, b Group) int {
		if d := slices.Index(order, a.Outcome) - slices.Index(order, b.Outcome); d != 0 {
			return d
		}
		return b.Count - a.Count
	})
	return out
}

// Write writes the result for a terminal.
func (r Result) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests of the log, decided again:\n", r.Requests)
	fmt.Fprintf(&b, "  %8d as then\n  %8d would be allowed that were refused\n  %8d would be denied that were allowed\n  %8d cannot be told\n",
		r.Same, r.WouldAllow, r.WouldDeny, r.CannotTell)
	if more := r.Others + r.Foreign + r.Unreadable; more > 0 {
		fmt.Fprintf(&b, "Not counted: %d records of something else, %d of sites that this config does not have, %d lines that are no record.\n", r.Others, r.Foreign, r.Unreadable)
	}
	var last Outcome
	for _, g := range r.Groups {
		if g.Outcome != last {
			last = g.Outcome
			fmt.Fprintf(&b, "\n%s\n", strings.ToUpper(string(g.Outcome)))
		}
		fmt.Fprintf(&b, "  %d: %s\n", g.Count, printable(g.Why))
		for _, e := range g.Examples {
			fmt.Fprintf(&b, "    %s\n", printable(strings.Join([]string{orDash(e.Ref), orDash(e.Time), orDash(e.Who), orDash(e.Method), e.Site + e.Path}, " ")))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
