/**
 * Checks a package against its signed documents: protectedVerify(artifact: 'build/acme-core-1.2.3.tgz', policy: 'policy.toml')
 *
 * A tarball and a folder need no ID token. For a version in the registry that FractalOps names, give credentialsId: the token
 * is bound as a file, for this one command.
 * Returns the outputs: verified, integrity, slsaBuildLevel, summary. The step fails when a check does.
 */
Map call(Map settings = [:]) {
    // Setting of this step, and the variable that the binary reads it from.
    Map variables = [
        fractalopsUrl: 'FRACTALOPS_BASE_URL',
        artifact     : 'PROTECTED_REGISTRY_ARTIFACT',
        project      : 'PROTECTED_REGISTRY_PROJECT',
        bundle       : 'PROTECTED_REGISTRY_BUNDLE',
        policy       : 'PROTECTED_REGISTRY_POLICY',
        identity     : 'PROTECTED_REGISTRY_IDENTITY',
        issuer       : 'PROTECTED_REGISTRY_ISSUER',
        expectSource : 'PROTECTED_REGISTRY_EXPECT_SOURCE',
        expectBuilder: 'PROTECTED_REGISTRY_EXPECT_BUILDER',
        trustedRoot  : 'PROTECTED_REGISTRY_TRUSTED_ROOT',
        key          : 'PROTECTED_REGISTRY_KEY',
        registry     : 'PROTECTED_REGISTRY_REGISTRY',
        download     : 'PROTECTED_REGISTRY_DOWNLOAD',
        offline      : 'PROTECTED_REGISTRY_OFFLINE',
        summary      : 'PROTECTED_REGISTRY_SUMMARY',
        rebuild      : 'PROTECTED_REGISTRY_REBUILD',
        manifest     : 'PROTECTED_REGISTRY_MANIFEST',
        mark         : 'PROTECTED_REGISTRY_MARK',
        caFile       : 'PROTECTED_REGISTRY_CA_FILE',
        config       : 'PROTECTED_REGISTRY_CONFIG',
        cliPath      : 'PROTECTED_REGISTRY_CLI_PATH',
    ]
    List<String> environment = []
    for (String name : new ArrayList<String>(settings.keySet())) {
        if (name == 'credentialsId') {
            continue
        }
        if (!variables.containsKey(name)) {
            error("protectedVerify has no setting '${name}'; it has credentialsId, ${variables.keySet().join(', ')}")
        }
        environment.add("${variables[name]}=${settings[name]}".toString())
    }

    String folder = "${pwd(tmp: true)}/protected-verify-${UUID.randomUUID()}"
    String outputs = "${folder}/outputs.env"
    environment.add("PROTECTED_REGISTRY_DOTENV=${outputs}".toString())
    Closure verify = {
        sh(label: 'Protected verify', script: '"${PROTECTED_REGISTRY_CLI_PATH:-protected-registry}" verify')
    }
    try {
        writeFile(file: outputs, text: '')
        withEnv(environment) {
            if (settings.credentialsId) {
                withCredentials([file(credentialsId: settings.credentialsId, variable: 'FRACTALOPS_ID_TOKEN_FILE')]) {
                    verify()
                }
            } else {
                verify()
            }
        }
        return read(readFile(file: outputs, encoding: 'UTF-8'))
    } finally {
        dir(folder) { deleteDir() }
    }
}

/** Turns lines of NAME_IN_CAPITALS=value into a map with camelCase names. */
private Map read(String text) {
    Map result = [:]
    for (String line : text.split('\n')) {
        int equals = line.indexOf('=')
        if (equals > 0) {
            String[] words = line.substring(0, equals).toLowerCase().split('_')
            String name = words[0]
            for (int i = 1; i < words.length; i++) {
                name += words[i].capitalize()
            }
            result[name] = line.substring(equals + 1)
        }
    }
    return result
}
