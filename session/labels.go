package session

// Every context in which this package seals, stores or signs something. All
// differ, so that nothing made for one purpose is ever taken for another.
const (
	// labelSealKeys is the sealer's label of the signing keys.
	labelSealKeys = "anteroom/session/seal-keys/v1"
	// labelStoreKeys is the store key under which the sealed keys lie.
	labelStoreKeys = "anteroom/session/keys/v1"
	// labelSealAssertionKeys and labelStoreAssertionKeys are the same for the
	// keys of assertions.
	labelSealAssertionKeys  = "anteroom/session/seal-assertion-keys/v1"
	labelStoreAssertionKeys = "anteroom/session/assertion-keys/v1"
	// labelRevoked is the kind of a feed entry that ends one session.
	labelRevoked = "anteroom/session/revoked-session/v1"
	// labelKilledKey is the kind of a feed entry that kills a signing key.
	labelKilledKey = "anteroom/session/killed-key/v1"
	// labelAssertionID is hashed with a sid for the sid of assertions.
	labelAssertionID = "anteroom/session/assertion-sid/v1"
	// The kinds of entries that end what began with a session of the provider;
	// what an account, a username or anybody began until a time; and of one that
	// holds several others.
	labelRevokedProvider = "anteroom/session/revoked-provider-session/v1"
	labelRevokedAccount  = "anteroom/session/revoked-account/v1"
	labelRevokedUsername = "anteroom/session/revoked-username/v1"
	labelRevokedAll      = "anteroom/session/revoked-all/v1"
	labelRevokedMany     = "anteroom/session/revoked-many/v1"
	// labelRecord, labelList and labelRenewal begin the store keys, and are in
	// the seal labels, of a sign-on's description, of an account's list of
	// sign-ons and of a renewal under way.
	labelRecord  = "anteroom/session/record/v1"
	labelList    = "anteroom/session/account-list/v1"
	labelRenewal = "anteroom/session/renewal/v1"
	// labelKept and labelOpened do the same for what is kept for the source of a
	// sign-on, and for whose account a session of the provider is. labelJournal begins
	// the journal of what the store could not take.
	labelKept    = "anteroom/session/kept/v1"
	labelOpened  = "anteroom/session/provider-accounts/v1"
	labelJournal = "anteroom/session/journal/v1"
	// labelProvider is hashed with a provider's session id, labelAccount with a
	// source and subject, labelUsername with a username.
	labelProvider = "anteroom/session/provider-session/v1"
	labelAccount  = "anteroom/session/account/v1"
	labelUsername = "anteroom/session/username/v1"
	// labelFamily begins every kind of feed entry that is ours to obey.
	labelFamily = "anteroom/session/"
	// tokenType is the typ of a session token. Tokens of other profiles are
	// refused by it even when they were signed with the same key.
	tokenType = "anteroom+jwt"
	// assertionType is the typ of what applications get.
	assertionType = "anteroom-assertion+jwt"
)
