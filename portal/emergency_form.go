package portal

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
)

// maxEmergencyForm bounds the body of the form, in bytes: emergency.MaxReason characters of four bytes,
// each byte escaped to three, an address and a patient.
const maxEmergencyForm = 16 << 10

// The fields of the form. They are the ids of the page's elements as well.
const (
	fieldTarget  = "return_to"
	fieldPatient = "patient"
	fieldReason  = "reason"
	fieldText    = "text"
	fieldConfirm = "confirm"
)

// confirmed is what the box of the form says when it is ticked.
const confirmed = "yes"

// emergencyForm is what a person sent.
type emergencyForm struct {
	target, patient string
	reason, text    string
	confirmed       bool
}

// readEmergency reads the form. A browser does not send a choice that was not made: such
// a field may be missing. None stands twice, and there are no others.
func readEmergency(w http.ResponseWriter, r *http.Request) (emergencyForm, *errorPage) {
	values, e := readBody(w, r, maxEmergencyForm)
	if e != nil {
		return emergencyForm{}, e
	}
	for name, list := range values {
		known := slices.Contains([]string{fieldTarget, fieldPatient, fieldReason, fieldText, fieldConfirm}, name)
		if !known || len(list) != 1 || !utf8.ValidString(list[0]) {
			return emergencyForm{}, pageForm
		}
	}
	if !values.Has(fieldTarget) || !values.Has(fieldPatient) {
		return emergencyForm{}, pageForm
	}
	return emergencyForm{
		target: values.Get(fieldTarget), patient: values.Get(fieldPatient), reason: values.Get(fieldReason),
		text: values.Get(fieldText), confirmed: values.Get(fieldConfirm) == confirmed,
	}, nil
}

// fieldError is one thing to mend, with the id of the element that it is about.
type fieldError struct{ Field, Text string }

// problems are what keeps the form from being taken, in the order of the page; e is what
// the policy opens for its address now.
func (f emergencyForm) problems(e policy.Emergency) (list []fieldError) {
	patient := e.Subject
	add := func(field, text string) { list = append(list, fieldError{field, text}) }
	if f.patient != patient {
		add(fieldPatient, "The form was about another patient. Check that this is the one you mean, and confirm again.")
	}
	if !slices.ContainsFunc(emergency.Reasons(e.Drill), func(r emergency.Reason) bool { return r.Code == f.reason }) {
		add(fieldReason, "Choose a reason.")
	}
	if _, err := emergency.CheckReason(emergency.Reasons(false)[0].Code, f.text); err != nil {
		// The browser counts a character outside of the Basic Multilingual Plane as two, and
		// blanks: what it lets through is never too long here, but it may be too short.
		switch n := utf8.RuneCountInString(strings.TrimSpace(f.text)); {
		case n == 0:
			add(fieldText, "Say in your own words why you need this record now.")
		case n > emergency.MaxReason:
			add(fieldText, fmt.Sprintf("Shorten the text: it may have at most %d characters.", emergency.MaxReason))
		default:
			add(fieldText, fmt.Sprintf("Say a little more: the text needs words, and at least %d characters.", emergency.MinReason))
		}
	}
	if !f.confirmed || f.patient != patient {
		add(fieldConfirm, "Tick the box to confirm.")
	}
	return list
}

// emergencyView is the form in the words of a page.
type emergencyView struct {
	Target, Patient string
	Page            string // the path, for a rule that is about no one patient
	For             string // "30 minutes"
	Reasons         []reasonView
	Text            string
	Confirmed       bool
	Errors          []fieldError
	Min, Max        int // of the text, in characters
	Contact         string
	Stale           bool       // it begins without the fresh sign-in that the rule asks for
	Running         *begunView // one that is under way for the same
}

type reasonView struct {
	ID, Code, Text string
	Chosen         bool
}

// Error is what is wrong with a field, or empty.
func (v *emergencyView) Error(field string) string {
	for _, e := range v.Errors {
		if e.Field == field {
			return e.Text
		}
	}
	return ""
}

// newEmergencyView fills the form with what was typed before. What would open is always
// what the policy says now.
func newEmergencyView(e policy.Emergency, f emergencyForm) *emergencyView {
	v := &emergencyView{
		Target: f.target, Patient: e.Subject, Page: e.Scope, For: span(e.For), Text: f.text, Confirmed: f.confirmed && f.patient == e.Subject,
		Min: emergency.MinReason, Max: emergency.MaxReason,
	}
	for i, r := range emergency.Reasons(e.Drill) {
		id := fieldReason // the summary of errors leads to the first
		if i > 0 {
			id += "-" + r.Code
		}
		v.Reasons = append(v.Reasons, reasonView{ID: id, Code: r.Code, Text: r.Text, Chosen: r.Code == f.reason})
	}
	return v
}

// showEmergency shows the form, with what is wrong with it.
func (p *Portal) showEmergency(w http.ResponseWriter, r *http.Request, v *emergencyView) {
	page, status := p.newView(r, "Emergency access"), http.StatusOK
	if len(v.Errors) > 0 {
		page.Title, status = "Error: "+page.Title, http.StatusUnprocessableEntity
	}
	v.Contact = p.contactOf(r)
	page.Emergency = v
	p.show(w, r, "emergency", status, page)
}
