package hardening

// Every context in which a key of this package is used, and the prefix of its keys in the store. A changed meaning gets a
// new version, never a new text under an old label. Tests here and in integration show that all of them differ.
const (
	// labelRecord opens the HMAC input of a record's innermost layer.
	labelRecord = "anteroom/hardening/record/v1"
	// labelFast makes the key of records without the slow step from a pepper.
	labelFast = "anteroom/hardening/record-fast/v1"
	// labelSet makes the key of a set's entries from a pepper.
	labelSet = "anteroom/hardening/set/v1"
	// labelSetLayer opens the HMAC input of each further layer of a set's entry.
	labelSetLayer = "anteroom/hardening/set-layer/v2"
	// labelLayer opens the HMAC input of each further layer.
	labelLayer = "anteroom/hardening/layer/v2"
	// labelExtract is the HKDF salt under which a TLS private key becomes a wrapping secret.
	labelExtract = "anteroom/hardening/tls-extract/v1"
	// labelWrap opens the HKDF info of the key that wraps one ring for one TLS key.
	labelWrap = "anteroom/hardening/tls-wrap/v1"
	// labelStanza opens the associated data of a wrapped file key.
	labelStanza = "anteroom/hardening/tls-stanza/v1"
	// labelRecovery opens the HPKE info of a recovery stanza.
	labelRecovery = "anteroom/hardening/recovery-stanza/v1"
	// labelExport opens the HPKE info of a ring on its way to another site.
	labelExport = "anteroom/hardening/ring-export/v1"
	// labelBody opens the associated data of a ring's sealed body.
	labelBody = "anteroom/hardening/ring-body/v1"
	// labelUID opens the HMAC input of the keyed hash that stands for a uid in audit events.
	labelUID = "anteroom/hardening/uid/v1"
	// labelTry opens that of the keyed hash that stands for a record of a uid in the failure table.
	labelTry = "anteroom/hardening/try/v1"
	// labelSource opens that of the keyed hash that stands for where a secret came from, in the failure table.
	labelSource = "anteroom/hardening/source/v1"
	// labelFailures is the prefix of the failures of a uid's record in the store; the ring's id and the keyed hash of the two
	// follow.
	labelFailures = "anteroom/hardening/failures/v1"
	// labelCensus is the prefix of a census under way in the store; the ring's id and the census's follow.
	labelCensus = "anteroom/hardening/census/v1"
	// labelReplaced is the prefix of a locked ring that an import took the place of; the ring's name, its epoch and a hash follow.
	labelReplaced = "anteroom/hardening/ring-replaced/v1"
	// labelStore is the prefix of a ring's key in the store; "/" and the ring's name follow.
	labelStore = "anteroom/hardening/ring/v1"
)
