package careconnect

import (
	"net/http"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// pinContext keeps a record of a PIN from being taken for that of anything else
// that the same service hardens.
const pinContext = "portal-pin"

// wrongPIN is all that the page says about a PIN that does not fit.
const wrongPIN = "This is not the portal PIN."

func (a *app) pinPage(w http.ResponseWriter, r *http.Request) error {
	return a.renderPIN(w, r, synthetic.Page{})
}

func (a *app) renderPIN(w http.ResponseWriter, r *http.Request, p synthetic.Page) error {
	p.Name, p.Title = "pin", "Portal PIN"
	p.Data = map[string]any{"Patients": synthetic.PatientsByName(), "PINs": a.state.View().PINs}
	return a.Render(w, r, p)
}

// pinSet stores a new PIN. One that is there already must be given first.
func (a *app) pinSet(w http.ResponseWriter, r *http.Request) error {
	if err := synthetic.ReadForm(r); err != nil {
		return err
	}
	p, err := synthetic.NeedPatient(r.PostForm.Get("patient"), http.StatusUnprocessableEntity)
	if err != nil {
		return err
	}
	pin := r.PostForm.Get("pin")
	if !goodPIN(pin) {
		return synthetic.Refuse(http.StatusUnprocessableEntity, "A PIN has four to eight digits.")
	}
	if pin != r.PostForm.Get("again") {
		return synthetic.Refuse(http.StatusUnprocessableEntity, "The two new PINs differ.")
	}
	old, have := a.state.View().PINs[p.ID]
	if have {
		answer, err := a.pins.verify(r.Context(), p.ID, r.PostForm.Get("current"), old)
		if err != nil {
			return err
		}
		if !answer.Match {
			return a.renderPIN(w, r, synthetic.Page{Status: http.StatusUnprocessableEntity, Alert: "A PIN is set already, and the current PIN that you gave is not it. Nothing was changed."})
		}
	}
	record, err := a.pins.protect(r.Context(), p.ID, pin)
	if err != nil {
		return err
	}
	if err := a.replacePIN(p.ID, old, record); err != nil {
		return err
	}
	return synthetic.Done(w, r, "/pin?done=pin")
}

// pinCheck says whether a PIN is right. When the service gives a fresh record
// for a right PIN (it changed its keys), that takes the place of the old one.
func (a *app) pinCheck(w http.ResponseWriter, r *http.Request) error {
	if err := synthetic.ReadForm(r); err != nil {
		return err
	}
	p, err := synthetic.NeedPatient(r.PostForm.Get("patient"), http.StatusUnprocessableEntity)
	if err != nil {
		return err
	}
	old, have := a.state.View().PINs[p.ID]
	if !have {
		return a.renderPIN(w, r, synthetic.Page{Status: http.StatusUnprocessableEntity, Alert: "No portal PIN is set for this person."})
	}
	answer, err := a.pins.verify(r.Context(), p.ID, r.PostForm.Get("pin"), old)
	if err != nil {
		return err
	}
	if !answer.Match {
		return a.renderPIN(w, r, synthetic.Page{Status: http.StatusUnprocessableEntity, Alert: wrongPIN})
	}
	if answer.Record != nil && *answer.Record != "" {
		// The old record still verifies, so a conflict or a full disk is no
		// reason to call a right PIN wrong.
		if err := a.replacePIN(p.ID, old, *answer.Record); err != nil {
			a.pins.log.Warn("storing a fresh PIN record", "patient", p.ID, "err", err)
		}
	}
	return a.renderPIN(w, r, synthetic.Page{Notice: "The portal PIN is right."})
}

// replacePIN stores a record, unless someone else changed it meanwhile.
func (a *app) replacePIN(patient, old, record string) error {
	return a.state.Change(func(r *records) error {
		if r.PINs[patient] != old {
			return synthetic.Refuse(http.StatusConflict, "The PIN was changed elsewhere at the same time. Nothing was changed here.")
		}
		if r.PINs == nil {
			r.PINs = map[string]string{}
		}
		r.PINs[patient] = record
		return nil
	})
}

func goodPIN(pin string) bool {
	if len(pin) < 4 || len(pin) > 8 {
		return false
	}
	for _, c := range []byte(pin) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
