// As in an app, except for what needs a telephone: React Native's native modules are not started first.
const {getDefaultConfig} = require("@react-native/metro-config");

const config = getDefaultConfig(__dirname);
config.serializer.getModulesRunBeforeMainModule = () => [];
module.exports = config;
