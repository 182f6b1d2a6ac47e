/**
 * Seals a protected artifact for one customer: protectedDeliver(artifact: 'build', customer: 'globex', keyRef: 'openbao://transit/globex')
 *
 * The ID tokens are bound as files, for this one command; they stand in no variable and in no log.
 * Returns the outputs: bundleId, bundleManifest, correlationId.
 */
Map call(Map settings = [:]) {
    // Setting of this step, and the variable that the binary reads it from.
    Map variables = [
        project      : 'PROTECTED_REGISTRY_PROJECT',
        package      : 'PROTECTED_REGISTRY_PACKAGE',
        customer     : 'PROTECTED_REGISTRY_CUSTOMER',
        version      : 'PROTECTED_REGISTRY_VERSION',
        artifact     : 'PROTECTED_REGISTRY_ARTIFACT',
        evidence     : 'PROTECTED_REGISTRY_EVIDENCE',
        keyRef       : 'PROTECTED_REGISTRY_KEY_REF',
        to           : 'PROTECTED_REGISTRY_TO',
        out          : 'PROTECTED_REGISTRY_OUT',
        oneFile      : 'PROTECTED_REGISTRY_ONE_FILE',
        bundleId     : 'PROTECTED_REGISTRY_BUNDLE_ID',
        noSubmit     : 'PROTECTED_REGISTRY_NO_SUBMIT',
        tenant       : 'PROTECTED_REGISTRY_TENANT',
        sign         : 'PROTECTED_REGISTRY_SIGN',
        signKey      : 'PROTECTED_REGISTRY_SIGN_KEY',
        fractalopsUrl: 'FRACTALOPS_BASE_URL',
        caFile       : 'PROTECTED_REGISTRY_CA_FILE',
        config       : 'PROTECTED_REGISTRY_CONFIG',
        cliPath      : 'PROTECTED_REGISTRY_CLI_PATH',
    ]
    // What is only sealed needs no identity at FractalOps.
    String usual = "${settings.noSubmit}" == 'true' ? null : 'fractalops-id-token'
    return protectedRegistry('deliver', variables, settings, settings.credentialsId ?: usual)
}
